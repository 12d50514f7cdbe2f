"""Released checkpoints: every name has its place, or a reason why it has none."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tests.support.detection import tiny_settings
from tests.support.tiny import tiny_eva_clip
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.export import save_clip
from clipself.backbones.layouts import to_official_eva
from clipself.backbones.weights import read_state_dict
from clipself.conformance.filling import fill
from clipself.data.detection import ClassSplit
from clipself.detection.detector import Detector
from clipself.detection.detectors.two_stage.published import (
    HEADS,
    TEXTS,
    UNUSED,
    VISUAL,
    load_published,
    to_our_names,
)
from clipself.detection.released import import_released

CLASSES = ClassSplit(ids=(1, 2, 3), names=("cat", "dog", "bird"), is_base=(True, True, False))
COUNTERS = "num_batches_tracked"


def released_shapes(
    clip: DenseCLIP, *, channels: int, masks: bool, rpn_norm: bool, classes: int = len(CLASSES.names)
) -> dict[str, tuple[int, ...]]:
    """Names and shapes as MMDetection 2.28 makes them from the released configurations."""
    width, dim = clip.trunk.width, clip.embed_dim
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, size: int) -> None:
        shapes.update({f"{name}.{part}": (size,) for part in ("weight", "bias", "running_mean", "running_var")})
        shapes[f"{name}.{COUNTERS}"] = ()

    def layer(name: str, *shape: int, bias: bool = True, outputs: int | None = None) -> None:
        shapes[f"{name}.weight"] = shape
        if bias:
            shapes[f"{name}.bias"] = (outputs or shape[0],)

    visual = {name: tensor.shape for name, tensor in clip.clip.state_dict().items() if name.startswith("visual.")}
    for ours, theirs in to_official_eva(visual).items():
        if "rope" not in ours:
            shapes[f"backbone.{theirs}"] = tuple(visual[ours])
    layer("backbone.interpolate1.0", width, width, 2, 2)
    norm("backbone.interpolate1.1", width)
    layer("backbone.interpolate1.3", width, width, 2, 2)
    layer("backbone.interpolate2.0", width, width, 2, 2)
    for level in range(4):
        layer(f"neck.lateral_convs.{level}.conv", channels, width, 1, 1, bias=False)
        norm(f"neck.lateral_convs.{level}.bn", channels)
        layer(f"neck.fpn_convs.{level}.conv", channels, channels, 3, 3, bias=False)
        norm(f"neck.fpn_convs.{level}.bn", channels)
    for conv in range(2):
        layer(f"rpn_head.rpn_conv.{conv}.conv", channels, channels, 3, 3, bias=not rpn_norm)
        if rpn_norm:
            norm(f"rpn_head.rpn_conv.{conv}.bn", channels)
    layer("rpn_head.rpn_cls", 3, channels, 1, 1)
    layer("rpn_head.rpn_reg", 12, channels, 1, 1)
    box = "roi_head.bbox_head"
    for conv in range(4):
        layer(f"{box}.shared_convs.{conv}.conv", channels, channels, 3, 3, bias=False)
        norm(f"{box}.shared_convs.{conv}.bn", channels)
    layer(f"{box}.shared_fcs.0", dim, channels * 49)
    for name in ("shared_fcs.1", "cls_fcs.0", "reg_fcs.0"):
        layer(f"{box}.{name}", dim, dim)
    layer(f"{box}.fc_cls", classes + 1, dim)
    layer(f"{box}.fc_reg", 4, dim)
    shapes[f"{box}.detect_temperature"] = ()
    shapes[TEXTS] = (dim, classes + 1)
    if masks:
        for conv in range(4):
            layer(f"roi_head.mask_head.convs.{conv}.conv", channels, channels, 3, 3, bias=False)
            norm(f"roi_head.mask_head.convs.{conv}.bn", channels)
        layer("roi_head.mask_head.upsample", channels, channels, 2, 2)
        layer("roi_head.mask_head.conv_logits", 1, channels, 1, 1)
    return shapes


def filled(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    state = {name: fill(name, shape) if shape else torch.tensor(7) for name, shape in shapes.items()}
    state |= {name: tensor.abs() + 0.5 for name, tensor in state.items() if name.endswith("running_var")}
    state["roi_head.bbox_head.detect_temperature"] = torch.tensor(43.0)
    state[TEXTS] = F.normalize(state[TEXTS], dim=0)
    return state


def settings(**changes: Any) -> Any:
    published = {"norm": "batch", "rpn_convs": 2, "box_convs": 4, "box_layers": 2, "box_width": None}
    return tiny_settings(**{**published, **changes})


@pytest.mark.parametrize("lvis", [False, True], ids=["ov-coco", "ov-lvis"])
def test_a_file_of_that_form_loads_strictly(lvis: bool, tmp_path: Path) -> None:
    clip = tiny_eva_clip(layers=4)
    shapes = released_shapes(clip, channels=16, masks=lvis, rpn_norm=lvis)
    state = filled(shapes)
    path = tmp_path / "released.pth"
    torch.save({"state_dict": state, "meta": {"epoch": 3}}, path)
    detector = load_published(
        read_state_dict(path), clip, settings(mask_convs=4 if lvis else 0, rpn_norm=lvis), CLASSES
    )
    own = detector.state_dict()
    heads = {name: tensor for name, tensor in own.items() if not name.startswith("backbone.")}
    renamed = to_our_names(state)
    assert set(renamed) == set(heads)
    for name, tensor in renamed.items():
        assert torch.equal(heads[name], tensor), name
    assert float(detector.temperature.detach()) == 43.0
    torch.testing.assert_close(detector.texts(), state[TEXTS].mT)
    visual = f"{VISUAL}blocks.0.attn.q_bias"
    assert torch.equal(clip.clip.state_dict()["visual.trunk.blocks.0.attn.q_proj.bias"], state[visual])
    (found,) = detector.detect(torch.zeros(1, 3, 64, 64), [(64, 64)])
    assert found.scores.isfinite().all()
    assert (found.masks is not None) == lvis


def test_every_row_of_the_table_is_needed_and_every_name_has_one() -> None:
    import re

    shapes = released_shapes(tiny_eva_clip(layers=4), channels=16, masks=True, rpn_norm=True)
    names = [name for name in [*shapes, "roi_head.bbox_head.bg_embedding"] if not name.startswith(VISUAL)]
    for pattern, _ in HEADS:
        assert any(re.match(pattern, name) for name in names), pattern
    without = [name for name in names if not any(re.match(pattern, name) for pattern, _ in HEADS)]
    assert sorted(without) == sorted([*UNUSED, TEXTS])


def test_an_imported_file_is_a_detector_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    clip = tiny_eva_clip(layers=4)
    state = filled(released_shapes(clip, channels=16, masks=False, rpn_norm=False))
    torch.save(state, tmp_path / "released.pth")
    save_clip(clip, tmp_path / "model")
    given: dict[str, Any] = {"model": str(tmp_path / "model"), "pretrained": None}
    folder = import_released(tmp_path / "released.pth", tmp_path / "out", settings=settings(), classes=CLASSES, **given)
    detector = Detector.from_checkpoint(folder, device="cpu")
    assert detector.trained_names == ["cat", "dog"]
    visual = f"{VISUAL}blocks.0.attn.q_bias"
    tower = detector.model.clip.clip.state_dict()
    assert torch.equal(tower["visual.trunk.blocks.0.attn.q_proj.bias"], state[visual])
    (found,) = detector.predict(Image.new("RGB", (60, 40)), names=["a kite"])
    assert found.scores.isfinite().all()


def test_files_without_counters_load_too() -> None:
    clip = tiny_eva_clip(layers=4)
    state = filled(released_shapes(clip, channels=16, masks=False, rpn_norm=False))
    kept = {name: tensor for name, tensor in state.items() if COUNTERS not in name}
    load_published(kept, clip, settings(), CLASSES, take_tower=False)


def test_what_does_not_fit_is_named() -> None:
    clip = tiny_eva_clip(layers=4)
    state = filled(released_shapes(clip, channels=16, masks=False, rpn_norm=False))
    with pytest.raises(ValueError, match=r"decoder\.0\.weight \(1,\) is not a name of the released F-ViT"):
        load_published({**state, "decoder.0.weight": torch.zeros(1)}, clip, settings(), CLASSES)
    short = {name: tensor for name, tensor in state.items() if name != "rpn_head.rpn_cls.weight"}
    with pytest.raises(ValueError, match=r"1 missing: proposer\.head\.score\.weight"):
        load_published(short, clip, settings(), CLASSES)
    with pytest.raises(ValueError, match="with 1 classes and the background, has"):
        load_published(state, clip, settings(), ClassSplit(ids=(1,), names=("cat",), is_base=(True,)))
