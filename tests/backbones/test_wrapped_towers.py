"""Checkpoints of the newer towers out of trainers: the same weights, whatever stands around them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.towers import twin_clip
from torch import Tensor

from clipself.backbones import read_state_dict
from clipself.backbones.strict import load_strictly

State = dict[str, Tensor]


def prefixed(state: State, before: str) -> State:
    return {f"{before}{name}": tensor for name, tensor in state.items()}


WRAPPERS: dict[str, Callable[[State], Any]] = {
    "lightning of a compiled student": lambda s: {"state_dict": prefixed(s, "model.student._orig_mod."), "epoch": 1},
    "student beside a teacher": lambda s: {
        "model": prefixed({k: 0 * v for k, v in s.items()}, "module.teacher.") | prefixed(s, "module.student.")
    },
    "numbers of NumPy about": lambda s: {"ema": {"state_dict": s}, "best": np.float64(0.5), "step": np.int64(7)},
    "half": lambda s: prefixed({k: v.half() if v.is_floating_point() else v for k, v in s.items()}, "module."),
}
TOWERS = ["ViT-B-16-SigLIP", "PE-Core-bigG-14-448", "EVA01-g-14", "coca_ViT-B-32", "convnext_base", "MobileCLIP2-S0"]


@pytest.mark.parametrize("name", TOWERS)
def test_wrappers_and_image_towers_alone(name: str, tmp_path: Path) -> None:
    clip, blank = twin_clip(name, tmp_path), twin_clip(name, tmp_path, seed=1)
    state = dict(clip.clip.state_dict())
    for wrapper, wrap in WRAPPERS.items():
        torch.save(wrap(state), tmp_path / "a.pt")
        load_strictly(blank.clip, read_state_dict(tmp_path / "a.pt"), source="a.pt")
        held = blank.clip.state_dict()
        for part, tensor in state.items():
            expected = tensor.half().float() if wrapper == "half" and tensor.is_floating_point() else tensor
            assert torch.equal(held[part], expected), (wrapper, part)
    image = {part: tensor for part, tensor in state.items() if part.startswith("visual.")}
    alone = image if name.startswith("coca") else {p.removeprefix("visual.trunk."): t for p, t in image.items()
                                                   if p.startswith("visual.trunk.")}  # fmt: skip
    heads = {p: t for p, t in image.items() if p.startswith("visual.head.")}
    if not heads:  # a head of open_clip's own belongs to no tower of timm's
        fresh = twin_clip(name, tmp_path, seed=2)
        assert load_strictly(fresh.clip, alone, source="tower.pt")
        assert fresh.weights_hash("image") == clip.weights_hash("image")
    spoiled = {**state, next(iter(image)): torch.full_like(next(iter(image.values())), torch.nan)}
    with pytest.raises(ValueError, match=rf"b\.pt: {next(iter(image))} is not finite .* NaN or infinite"):
        load_strictly(blank.clip, spoiled, source="b.pt")


def test_the_first_eva_clip_by_its_published_names(tmp_path: Path) -> None:
    for name in ("EVA01-g-14", "EVA02-E-14"):
        clip, blank = twin_clip(name, tmp_path), twin_clip(name, tmp_path, seed=1)
        published = {
            part.replace("visual.trunk.", "visual."): tensor for part, tensor in clip.clip.state_dict().items()
        }
        assert "visual.blocks.0.attn.q_bias" in published
        load_strictly(blank.clip, published, source="eva.pt")
        assert blank.weights_hash() == clip.weights_hash()
