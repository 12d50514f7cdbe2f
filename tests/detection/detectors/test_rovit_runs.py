"""RO-ViT's detector whole: what it stands on, what it learns, what a released file becomes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.support.detection import BASE, NAMES, step_for, tiny_batch, write_blocks
from tests.support.tiny import tiny_eva_clip, tiny_openai_clip, tiny_resnet_clip

from clipself.backbones.export import save_clip
from clipself.backbones.text import make_vocabulary
from clipself.data.detection import ClassSplit, CocoDetection
from clipself.detection.checkpoint import load_detector
from clipself.detection.detector import Detector
from clipself.detection.detectors.rovit.model import RoVit
from clipself.detection.detectors.rovit.published import parts_of
from clipself.detection.detectors.rovit.settings import RoVitSettings
from clipself.detection.detectors.rovit.trunks import ClipTrunk, run_blocks
from clipself.detection.detectors.table import build_detector, make_settings
from clipself.detection.evaluate import score_detector
from clipself.detection.released import import_released
from clipself.detection.train import train_detector

TINY: dict[str, Any] = {
    "image_size": 64, "windows": 2, "channels": 32, "rpn_convs": 1, "box_convs": 1, "box_width": 64, "rpn_samples": 64,
    "anchor_scale": 4.0, "proposals_before": 100, "proposals_after": 50, "roi_samples": 32, "templates": "simple",
}  # fmt: skip
PLAIN: dict[str, Any] = {"vit": "plain", "width": 32, "layers": 4, "heads": 2, "patch": 8, "table": 4}


def tiny(**changes: Any) -> RoVit:
    settings = make_settings("rovit", **{**TINY, **changes})
    clip = tiny_openai_clip(layers=4)
    torch.manual_seed(0)
    detector = build_detector(clip, settings, make_vocabulary(clip, NAMES, base=BASE, templates="simple"))
    assert isinstance(detector, RoVit)
    return detector


@pytest.mark.parametrize("make", [tiny_openai_clip, tiny_eva_clip])
def test_without_windows_the_trunk_is_the_clip(make: Any) -> None:
    clip = make(layers=3)
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        seen = ClipTrunk(clip, RoVitSettings(windows=1, train_trunk=False))(images, dense=True)
        last = clip.taps(images, [2], readout="qk")[0]
        torch.testing.assert_close(seen.dense_BDYX, clip.dense_map(images))
    normed = torch.nn.functional.layer_norm(last.permute(0, 2, 3, 1), last.shape[1:2]).permute(0, 3, 1, 2)
    torch.testing.assert_close(seen.map_BCYX, normed, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_windows_of_a_clip_with_rotary_positions_are_places_of_the_whole() -> None:
    """Each window of one picture, run alone with its own rotary positions, gives what it gives beside the others."""
    clip = tiny_eva_clip(layers=2)
    trunk = ClipTrunk(clip, RoVitSettings(windows=2, train_trunk=False, global_blocks=()))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    other = images.clone()
    other[..., 32:, 32:] = 0
    blocks = [2, 2]
    one, two = (run_blocks(trunk.trunk, picture, blocks)[0][1].to_map() for picture in (images, other))
    change = (one - two).abs().amax(1)[0]
    assert float(change[:2].max()) == 0.0
    assert float(change[2:, 2:].min()) > 0


@pytest.mark.parametrize(
    ("changes", "learns", "frozen_dense"),
    [({}, True, False), ({"twin": True}, True, True), ({"train_trunk": False}, False, True),
     (PLAIN, True, False), ({**PLAIN, "twin": True}, True, True)],
)  # fmt: skip
def test_what_learns_and_whose_opinion_counts(changes: Mapping[str, Any], learns: bool, frozen_dense: bool) -> None:
    detector = tiny(**changes)
    detector.train()
    batch = tiny_batch([[[4.0, 4.0, 40.0, 40.0]]], [[1]])
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    trunk = {id(parameter) for parameter in detector.vit.learning()}
    assert bool(trunk) == learns
    with torch.no_grad():
        dense = detector.vit(batch.images_B3HW, dense=True).dense_BDYX
    optimizer = torch.optim.AdamW(detector.parameter_groups(weight_decay=0.0), lr=1e-2)
    losses = detector(batch, step_for(batch))
    assert set(losses) == {"centreness", "overlap", "classes", "boxes"}
    total: Any = torch.stack(list(losses.values())).sum()
    total.backward()
    learning = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None for parameter in learning)  # none that other processes would wait for
    optimizer.step()
    named = dict(detector.named_parameters())
    changed = {name for name, value in detector.state_dict().items() if not torch.equal(value, before[name])}
    assert changed <= {name for name, parameter in named.items() if parameter.requires_grad}
    assert any(id(named[name]) in trunk for name in changed) == learns
    with torch.no_grad():
        again = detector.vit(batch.images_B3HW, dense=True).dense_BDYX
    assert torch.equal(dense, again) == frozen_dense


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(
        ValueError, match=r"image_size=72 is no multiple of the windows of 2 patches of 8 pixels; try 6"
    ):
        tiny(image_size=72)
    with pytest.raises(ValueError, match="width 64 is compared with texts of 32 numbers"):
        tiny(**{**PLAIN, "width": 64})
    with pytest.raises(ValueError, match="shift belongs to vit='plain'"):
        RoVitSettings(shift=1)
    with pytest.raises(ValueError, match="trunk_weights belong to vit='plain'"):
        RoVitSettings(trunk_weights="file.npz")
    with pytest.raises(ValueError, match="the detector rovit needs a trunk of transformer blocks"):
        ClipTrunk(tiny_resnet_clip(), RoVitSettings())


def test_global_blocks_end_each_quarter() -> None:
    settings = RoVitSettings()
    for depth, everywhere in {24: (5, 11, 17, 23), 12: (2, 5, 8, 11), 32: (7, 15, 23, 31)}.items():
        assert tuple(place for place, count in enumerate(settings.windows_of(depth)) if not count) == everywhere


@pytest.mark.slow  # F-ViT's stays, of the same heads and losses
def test_four_images_are_learned_by_heart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Overfits to AP50 above 0.9."""
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    annotations = write_blocks(tmp_path, 4, most=2)
    train_detector(
        out=tmp_path / "run", annotations=annotations, images=tmp_path / "pictures", max_steps=150, batch_size=4,
        lr=4e-3, model=str(save_clip(tiny_openai_clip(layers=4), tmp_path / "model")), workers=0, precision="fp32",
        device="cpu", scales=(1.0, 1.0), flip=0.0, save_every=0, recipe="small-rovit", warmup_steps=20,
        detector={**TINY, "fusion": "none"},
    )  # fmt: skip
    data = CocoDetection(annotations, tmp_path / "pictures", train=False)
    report = score_detector(Detector.from_checkpoint(tmp_path / "run", device="cpu"), data, progress=False)
    assert report.summary["AP50 all"] > 90.0


def to_flax(name: str, value: torch.Tensor, heads: int) -> NDArray[np.float32]:
    """Torch's layout of a published name -> Flax'."""
    array, layer = value.detach().numpy(), name.split(".")[-2]
    if layer in ("query", "key", "value"):
        return array.T.reshape(array.shape[1], heads, -1) if array.ndim == 2 else array.reshape(heads, -1)
    if layer == "out" and array.ndim == 2:
        return array.T.reshape(heads, -1, array.shape[0])
    if layer.startswith("ConvTranspose"):
        return array.transpose(2, 3, 0, 1)[::-1, ::-1]
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    return array.T if name.endswith("kernel") else array


def test_a_released_tree_becomes_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    detector = tiny(**PLAIN)
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    own = detector.state_dict()
    tree: dict[str, Any] = {"task_heads_0/temperature": np.asarray([0.7], dtype=np.float32)}
    for prefix, names in parts_of(detector.settings).items():
        for ours, theirs in names.items():
            value = own[f"{prefix}{ours}"]
            value = value[[1, 0, 3, 2]] if "box-predict" in theirs else value
            tree[theirs.replace(".", "/")] = to_flax(theirs, value, heads=2)
    masks: dict[str, Any] = {"task_heads_0/maskrcnn_head_fn/conv/kernel": np.zeros((1, 1, 2, 2))}
    np.savez(tmp_path / "tree.npz", **tree, **masks)
    clip = save_clip(detector.clip, tmp_path / "clip")
    classes = ClassSplit(ids=(1, 2, 3, 4), names=NAMES, is_base=tuple(name in BASE for name in NAMES))
    settings = RoVitSettings(**{**TINY, **PLAIN})
    folder = import_released(
        tmp_path / "tree.npz", tmp_path / "out", model=str(clip), pretrained=None, settings=settings, classes=classes
    )
    read: Any = load_detector(folder)
    for name, value in read.state_dict().items():
        torch.testing.assert_close(value, own[name] if name != "temperature" else torch.tensor(0.7), msg=name)
    images = torch.rand(1, 3, 64, 64)
    (found,) = read.detect(images, [(64, 64)])
    detector.temperature.data.fill_(0.7)
    detector.use(read.vocabulary)
    (wanted,) = detector.eval().detect(images, [(64, 64)])
    torch.testing.assert_close(found.boxes, wanted.boxes)
    np.savez(tmp_path / "short.npz", **{name: value for name, value in tree.items() if "conv1/bias" not in name})
    with pytest.raises(ValueError, match=r"1 missing: vit\.vit\.conv1\.bias"):
        import_released(
            tmp_path / "short.npz", tmp_path / "no", model=str(clip), pretrained=None, settings=settings,
            classes=classes,
        )  # fmt: skip
    with pytest.raises(ValueError, match="released files hold a plain transformer"):
        import_released(
            tmp_path / "tree.npz", tmp_path / "no", model=str(clip), pretrained=None, settings=RoVitSettings(),
            classes=classes,
        )  # fmt: skip


def test_a_plain_transformer_starts_from_a_file(tmp_path: Path) -> None:
    source = tiny(**PLAIN, twin=True)
    with torch.no_grad():
        source.vit.vit.conv1.weight.add_(1.0)  # type: ignore[union-attr, operator]
    tree: dict[str, Any] = {
        theirs: to_flax(theirs, source.state_dict()[f"vit.vit.{ours}"], heads=2)
        for ours, theirs in parts_of(source.settings)["vit.vit."].items()
    }
    np.savez(tmp_path / "vit.npz", **tree)
    detector = tiny(**PLAIN, twin=True, trunk_weights=str(tmp_path / "vit.npz"))
    detector.prepare(CocoDetection.__new__(CocoDetection))
    for part in ("vit", "twin"):
        for name, value in source.vit.vit.state_dict().items():  # type: ignore[union-attr]
            torch.testing.assert_close(detector.state_dict()[f"vit.{part}.{name}"], value)
    np.savez(tmp_path / "vit.npz", **{**tree, "vision_model.class_embedding": np.zeros(3)})
    with pytest.raises(ValueError, match=r"no place for: vision_model\.class_embedding"):
        detector.prepare(CocoDetection.__new__(CocoDetection))
    (tmp_path / "vit.npz").write_text("no archive")
    with pytest.raises(ValueError, match="cannot be read as arrays"):
        detector.prepare(CocoDetection.__new__(CocoDetection))
