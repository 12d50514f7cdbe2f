"""One file and one line: a backbone and a readout that the package has never seen, through everything it does."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tests.support.detection import BASE, NAMES, step_for, tiny_batch, tiny_settings
from tests.support.pictures import draw_pictures
from tests.support.tiny import tiny_eva_clip, tiny_openai_clip, tiny_resnet_clip
from tests.support.toys.conv import ToyConv, ToyConvTrunk, toy_conv_clip
from tests.support.toys.readout import MEAN_VALUES

from clipself.backbones import readouts, trunks
from clipself.backbones.export import save_clip
from clipself.backbones.loading import load_clip
from clipself.backbones.text import make_vocabulary
from clipself.detection.detectors.table import build_detector
from clipself.distillation.train import distill
from clipself.panoptic.generators.features import taps_of
from clipself.panoptic.generators.own import build_mask_model
from clipself.panoptic.settings import OwnMasksSettings
from clipself.segmentation.catseg.model import catseg_settings
from clipself.segmentation.san.model import san_settings


@pytest.fixture(autouse=True)
def _one_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trunks.TRUNKS, ToyConv, ToyConvTrunk)
    monkeypatch.setitem(readouts.READOUTS, "mean-values", MEAN_VALUES)


def images_of(rows: int, cols: int) -> torch.Tensor:
    return torch.randn(2, 3, 16 * rows, 16 * cols, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_a_toy_backbone_gives_all_readings() -> None:
    clip, images = toy_conv_clip(), images_of(2, 3)
    read = clip.read(images, taps=(0, 1, 2), dense=True, pooled=True, normalize=False)
    tower = clip.clip.visual.trunk  # type: ignore[union-attr]
    maps = [images]
    for stage in tower.stages:  # type: ignore[union-attr]
        maps.append(stage(maps[-1]))
    for tap, expected in zip(read.taps, maps[1:], strict=True):
        assert torch.equal(tap, expected)
    assert read.dense is not None
    for y, x in ((0, 0), (1, 2)):
        torch.testing.assert_close(read.dense[:, :, y, x], tower.head(maps[-1][:, :, y, x]))  # type: ignore
    torch.testing.assert_close(read.pooled, clip.clip.encode_image(images))  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"ToyConv|TimmModel has none \(it pools by mean\); use 'value'"):
        clip.dense_map(images, readout="clearclip")
    with pytest.raises(ValueError, match="16 x 40 pixels do not divide into patches of 16"):
        clip.dense_map(torch.zeros(1, 3, 16, 40))


def test_a_toy_backbone_is_distilled_and_found_again(tmp_path: Path) -> None:
    model = save_clip(toy_conv_clip(), tmp_path / "model")
    result = distill(
        data=draw_pictures(tmp_path / "pictures", 4), out=tmp_path / "run", model=str(model), image_size=64,
        max_steps=8, batch_size=4, lr=3e-3, workers=0, precision="fp32", max_regions=6, flip=0.0, device="cpu",
    )  # fmt: skip
    assert result.last_loss < result.first_loss
    refined, original = load_clip(tmp_path / "run" / "student"), load_clip(model)
    changed = {
        name
        for name, tensor in refined.clip.state_dict().items()
        if not torch.equal(tensor, original.clip.state_dict()[name])
    }
    assert {name.split(".")[2] for name in changed} == {"stages"}  # the head stays, and so do batch statistics
    assert not any("running" in name for name in changed)


def test_a_toy_backbone_feeds_a_detector() -> None:
    settings = tiny_settings(method="fvlm", anchor_scale=2.0)
    clip = toy_conv_clip()
    vocabulary = make_vocabulary(clip, NAMES, base=BASE, templates="simple")
    detector = build_detector(clip, settings, vocabulary)
    batch = tiny_batch([[[0, 0, 32, 32]], [[16, 16, 60, 60]]], [[0], [1]])
    losses = detector(batch, step_for(batch))
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert all(value.isfinite() for value in losses.values())
    backbone = detector.backbone  # type: ignore[attr-defined]
    features = backbone(batch.images_B3HW)
    assert [tuple(tap.shape[1:]) for tap in features.taps] == [(16, 16, 16), (24, 8, 8), (32, 4, 4)]
    whole = [torch.tensor([[0.0, 0.0, 64.0, 64.0]])] * len(batch.names)
    # The tower's own pooling of a region: RoIAlign to the native 2 x 2 grid, whose mean is that of all 4 x 4 cells.
    region = backbone.embed_regions(features, whole)
    torch.testing.assert_close(region, clip.encode_image(batch.images_B3HW, normalize=False))


def test_what_needs_blocks_or_four_levels_refuses_a_toy_in_words() -> None:
    clip = toy_conv_clip()
    for name, ask in (("CAT-Seg", catseg_settings), ("SAN", san_settings)):
        with pytest.raises(ValueError, match=rf"{name} needs .* class token.*strides 4, 8, 16 and pools by mean"):
            ask(clip)
    with pytest.raises(ValueError, match=r"expected four levels \(strides 4, 8, 16, 32\)"):
        build_mask_model(OwnMasksSettings(), clip)


@torch.no_grad()
def test_stages_of_four_strides_are_the_mask_decoders_pyramid() -> None:
    clip = tiny_resnet_clip()
    settings = OwnMasksSettings(channels=32, queries=5, pixel_hidden=32, hidden=32, layers=1, pixel_layers=1)
    model = build_mask_model(settings, clip).eval()
    images = torch.randn(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    taps = clip.taps(images, taps_of(settings, clip))
    assert [(tap.shape[1], 64 // tap.shape[2]) for tap in taps] == [(64, 4), (128, 8), (256, 16), (512, 32)]
    assert model.find(images, taps).masks_BQYX.shape == (1, 5, 16, 32)


@torch.no_grad()
def test_a_toy_readout_is_a_name_like_any_other() -> None:
    clip = tiny_eva_clip()
    images = images_of(2, 3)
    trunk = clip.trunk
    before = trunk.forward_blocks(trunk.embed(images), list(trunk.blocks)[:-2])  # type: ignore[attr-defined]
    ahead = trunk.forward_blocks(before, [trunk.blocks[-2]])  # type: ignore[attr-defined]
    values = []
    for block, tokens in zip(list(trunk.blocks)[-2:], (before, ahead), strict=True):  # type: ignore[attr-defined]
        values.append(block.attn.v_proj(block.norm1(tokens.tokens)))
    gain = (1 + images.mean((1, 2, 3)).sigmoid())[:, None, None]
    for share, name in ((0.5, "mean-values"), (0.2, "mean-values:last_share=0.2")):
        mixed = share * values[1] + (1 - share) * gain * values[0]
        last = trunk.blocks[-1]  # type: ignore[attr-defined]
        expected = trunk.head(last.attn.proj(last.attn.norm(mixed)))[:, 1:]  # type: ignore[attr-defined]
        dense = clip.dense_map(images, readout=name)
        torch.testing.assert_close(dense.flatten(2).mT, F.normalize(expected, dim=-1), atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match=r"readout option 'std' is unknown; this one takes \['last_share'\]"):
        clip.dense_map(images, readout="mean-values:std=3")
    with pytest.raises(ValueError, match="write name=number, as in 'naclip:std=3'"):
        clip.dense_map(images, readout="naclip:wide")


def test_a_toy_readout_is_distilled(tmp_path: Path) -> None:
    model = save_clip(tiny_openai_clip(), tmp_path / "model")
    result = distill(
        data=draw_pictures(tmp_path / "pictures", 4), out=tmp_path / "run", model=str(model), image_size=64,
        max_steps=6, batch_size=4, lr=1e-3, workers=0, precision="fp32", max_regions=6, flip=0.0, device="cpu",
        readout="mean-values",
    )  # fmt: skip
    assert result.last_loss < result.first_loss
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["readout"] == "mean-values"
