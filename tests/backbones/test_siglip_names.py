"""transformers' SiglipModel, folder and file: what it computes, computed by open_clip's classes."""

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file
from tests.support.towers import shrunk_timm, write_tokenizer

from clipself.backbones import load_clip
from clipself.backbones.siglip_names import named_siglip

NAME = "ViT-B-16-SigLIP2"
SIDE = {"hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 256}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small SiglipModel as the hub has it, and open_clip's model of these sizes."""
    transformers = pytest.importorskip("transformers")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.SiglipConfig(
            text_config={**SIDE, "vocab_size": 40, "max_position_embeddings": 16, "projection_size": 64},
            vision_config={**SIDE, "image_size": 64, "patch_size": 16},
        )
        model = transformers.SiglipModel(config).eval()
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path / "hub")
    write_tokenizer(tmp_path / "hub")
    ours: Any = open_clip.get_model_config(NAME)
    small = {"img_size": 64, "embed_dim": 64, "depth": 2, "num_heads": 2, "act_layer": "gelu_tanh"}
    ours["vision_cfg"].update(image_size=64, timm_model_name=shrunk_timm("vit_base_patch16_siglip_256", **small))
    ours["text_cfg"].update(context_length=16, vocab_size=40, width=64, heads=2, layers=2)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-siglip", {**ours, "embed_dim": 64})
    return tmp_path / "hub"


@torch.no_grad()
def test_a_folder_computes_what_transformers_computes(folder: Path) -> None:
    import transformers

    stock = transformers.SiglipModel.from_pretrained(str(folder)).eval()
    clip = load_clip(folder)
    images, texts = torch.randn(2, 3, 64, 64), ["a photo of the dog .", "red kite"]
    ids = clip.tokenizer(texts)
    pixels = stock.get_image_features(pixel_values=images)
    words = stock.get_text_features(input_ids=ids)
    expected = [one if isinstance(one, torch.Tensor) else one.pooler_output for one in (pixels, words)]
    found = [clip.encode_image(images, normalize=False), clip.encode_text(texts, normalize=False)]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert (clip.name, clip.image_mean, clip.trunk.pools_by) == ("tiny-siglip", (0.48145466, 0.4578275, 0.40821073),
                                                                 "attention")  # fmt: skip
    assert float(clip.clip.logit_bias) == float(stock.logit_bias)  # type: ignore[arg-type]


@torch.no_grad()
def test_its_file_alone_and_in_a_trainers_wrappers(folder: Path, tmp_path: Path) -> None:
    state = load_file(folder / "model.safetensors")
    whole = load_clip(folder)
    torch.save({"epoch": 3, "model": {f"module.student.{k}": v for k, v in state.items()}}, tmp_path / "wrapped.pt")
    for file in (folder / "model.safetensors", tmp_path / "wrapped.pt"):
        assert load_clip("tiny-siglip", file).weights_hash() == whole.weights_hash()
    image = {name: tensor for name, tensor in state.items() if name.startswith("vision_model.")}
    torch.save(image, tmp_path / "image.pt")
    alone = load_clip("tiny-siglip", tmp_path / "image.pt")
    assert alone.weights_hash("image") == whole.weights_hash("image")
    with pytest.raises(ValueError, match="held no text tower"):
        alone.encode_text(["a"])


def test_sizes_that_open_clip_has_not_are_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(open_clip.factory._MODEL_CONFIGS, "tiny-siglip")
    with pytest.raises(ValueError, match=r"open_clip has no SigLIP for pictures of 64 pixels whose text tower has"):
        load_clip(folder)


@pytest.mark.parametrize(
    ("hub", "width", "patch", "side", "text", "expected"),
    [
        ("siglip2-base-patch16-256", 768, 16, 256, 768, "ViT-B-16-SigLIP2-256"),
        ("siglip2-base-patch32-256", 768, 32, 256, 768, "ViT-B-32-SigLIP2-256"),
        ("siglip2-large-patch16-256", 1024, 16, 256, 1024, "ViT-L-16-SigLIP2-256"),
        ("siglip2-so400m-patch14-224", 1152, 14, 224, 1152, "ViT-SO400M-14-SigLIP2"),
        ("siglip2-so400m-patch14-384", 1152, 14, 384, 1152, "ViT-SO400M-14-SigLIP2-378"),
        ("siglip2-so400m-patch16-256", 1152, 16, 256, 1152, "ViT-SO400M-16-SigLIP2-256"),
        ("siglip2-so400m-patch16-384", 1152, 16, 384, 1152, "ViT-SO400M-16-SigLIP2-384"),
        ("siglip2-giant-opt-patch16-256", 1536, 16, 256, 1152, "ViT-gopt-16-SigLIP2-256"),
        ("siglip2-giant-opt-patch16-384", 1536, 16, 384, 1152, "ViT-gopt-16-SigLIP2-384"),
    ],
)
def test_releases_that_share_a_text_tower_are_told_apart(
    hub: str, width: int, patch: int, side: int, text: int, expected: str
) -> None:
    """Sizes as the releases of the hub state them; several image towers stand beside one text tower."""
    state = {
        "text.token_embedding.weight": torch.empty(256000, text, device="meta"),
        "text.positional_embedding": torch.empty(64, text, device="meta"),
        "visual.trunk.patch_embed.proj.weight": torch.empty(width, 3, patch, patch, device="meta"),
    }
    assert named_siglip(state, image_size=side, source=hub) == expected
