"""Joins stem, blocks and text tower into a folder that stock open_clip reads."""

import json
from pathlib import Path
from typing import Any

import torch
from phrases import JOINT
from teachers import imagenet_network
from text_tower import TEXT_CFG, write_merges

from clipself.backbones.dense_clip import DenseCLIP, TowerIdentity
from clipself.backbones.export import save_clip
from clipself.backbones.loading import build_clip
from clipself.backbones.mini_tower import STEM_STAGES

PACKAGE = Path(__file__).parents[2] / "src/clipself/backbones/mini_photos"
RELEASE = "clipself-mini@4"
MODEL_CFG: dict[str, Any] = {
    "embed_dim": JOINT,
    "vision_cfg": {
        "image_size": 160,
        "timm_model_name": "clipself_mini_hybrid",
        "timm_model_pretrained": False,
        "timm_pool": "token",
        "timm_proj": None,
    },
    "text_cfg": TEXT_CFG,
    "custom_text": True,
}


def build_model(work: Path) -> DenseCLIP:
    """The trained parts in one model, float32."""
    write_merges(work / "merges.txt.gz")
    clip = build_clip(
        "clipself-mini",
        MODEL_CFG,
        identity=TowerIdentity(image=RELEASE, text=RELEASE),
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        folder=work,
    )
    image = torch.load(work / "image.pt", weights_only=True)["model"]
    text = torch.load(work / "text.pt", weights_only=True)["model"]
    network = imagenet_network()
    stem = {"conv_stem": network.conv_stem, "bn1": network.bn1, "blocks": network.blocks[:STEM_STAGES]}
    state = {f"visual.{name}": value for name, value in image.items() if name.startswith("trunk.")}
    for part, module in stem.items():
        for name, value in module.state_dict().items():
            state[f"visual.trunk.patch_embed.backbone.{part}.{name}"] = value
    state |= {f"text.{name}": value for name, value in text.items()}
    state["logit_scale"] = image["logit_scale"]
    clip.clip.load_state_dict(state, strict=True)
    return clip.eval()


def export(work: Path, folder: Path = PACKAGE) -> Path:
    """Writes float16 weights, configuration, card and merges."""
    about = json.loads((Path(__file__).parent / "card.json").read_text(encoding="utf-8"))
    save_clip(build_model(work), folder, card=about, dtype=torch.float16)
    return folder


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=PACKAGE)
    options = parser.parse_args()
    print(export(options.work, options.out))
