"""The bank of regions: means, nearest keys and what they add, each by hand; strict on disk."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tests.segmentation.training_free.test_training_free import NAMES, SMALL, halves, picture
from tests.support.tiny import tiny_openai_clip

from clipself.segmentation import RegionBank, TrainingFree, build_bank
from clipself.segmentation.training_free.regions import region_means

CORR = replace(SMALL, readout="corrclip:merge=1.1", by_region=False)


def bank_of(keys: torch.Tensor, values: torch.Tensor, **told: str) -> RegionBank:
    return RegionBank(keys_NG=keys, values_ND=values, **{"guide": "clip", "weights": "w", "readout": "corrclip"} | told)


def test_support_is_the_mean_of_the_nearest() -> None:
    keys = F.normalize(torch.tensor([[1.0, 0.0], [0.9, 0.2], [0.0, 1.0]]), dim=-1)
    values = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    found = bank_of(keys, values).support(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), top=2)
    half = math.sqrt(0.5)
    torch.testing.assert_close(found, torch.tensor([[half, half, 0.0], [0.0, half, half]]))
    assert bank_of(keys, values).support(torch.tensor([[1.0, 0.0]]), top=9).shape == (1, 3)  # as many as there are


def test_means_over_the_cells_of_a_region() -> None:
    cells = torch.tensor([[[1.0, 2.0, 4.0]], [[0.0, 1.0, 3.0]]])  # two channels, one row of three cells
    regions = torch.tensor([[5, 5, 5, 5, -1, -1], [5, 5, 5, 5, -1, -1]])  # two pixels a cell
    numbers, means = region_means(cells, regions)
    assert numbers.tolist() == [5]
    torch.testing.assert_close(means, torch.tensor([[3.0, 1.0]]) / math.sqrt(10))


@torch.no_grad()
def test_a_bank_holds_what_guide_and_clip_make_of_each_region(tmp_path: Path) -> None:
    clip, image = tiny_openai_clip(), picture()
    bank = build_bank(clip, [image, image], readout=CORR.readout, regions=halves, shortest=48, progress=False)
    assert bank.keys_NG.shape == (4, 64)
    assert bank.values_ND.shape == (4, 32)
    pixels = clip.preprocess(image, size=(48, 64))[None]
    entered = F.normalize(clip.taps(pixels, [0])[0], dim=1)[0]  # of two blocks: the guide is what enters the last
    left = F.normalize(entered[:, :, :4].mean((1, 2)), dim=0)  # 6 x 8 patches: the left half is region 4
    torch.testing.assert_close(bank.keys_NG[0], left, atol=1e-5, rtol=1e-4)
    columns = torch.arange(64) < 32
    regions = torch.where(columns, 4, torch.where(torch.arange(48)[:, None] < 24, 9, -1))[None]
    dense = clip.dense_map(pixels, readout=CORR.readout, regions=regions)[0]
    torch.testing.assert_close(bank.values_ND[1], F.normalize(dense[:, :3, 4:].mean((1, 2)), dim=0))
    bank.save(tmp_path / "bank")
    again = RegionBank.load(tmp_path / "bank")
    assert torch.equal(again.keys_NG, bank.keys_NG)
    assert torch.equal(again.values_ND, bank.values_ND)
    assert (again.guide, again.weights) == ("clip", clip.weights_hash("image"))


@torch.no_grad()
def test_support_is_added_to_the_cells_of_each_region() -> None:
    clip, image = tiny_openai_clip(), picture()
    plain = TrainingFree(clip, NAMES, CORR, regions=halves).read(image).dense_VDyx
    value = F.normalize(torch.randn(1, 32, generator=torch.Generator().manual_seed(2)), dim=-1)
    bank = bank_of(torch.ones(1, 64) / 8, value, weights=clip.weights_hash("image"))
    settings = replace(CORR, bank_weight=0.5)
    found = TrainingFree(clip, NAMES, settings, regions=halves, bank=bank).read(image).dense_VDyx
    supported = F.normalize(plain + 0.5 * value[0][:, None, None], dim=1)
    torch.testing.assert_close(found[0], supported[0])  # a window within the left half
    last = torch.cat([supported[5][:, :1], plain[5][:, 1:]], dim=1)  # rows from 16 on: the region ends at 24
    torch.testing.assert_close(found[5], last)


def test_what_a_bank_does_not_fit(tmp_path: Path) -> None:
    clip, image = tiny_openai_clip(), picture()
    bank = bank_of(torch.ones(1, 64) / 8, torch.ones(1, 32), weights="of another")
    with pytest.raises(ValueError, match="none are given; pass regions="):
        TrainingFree(clip, NAMES, CORR, bank=bank)
    with pytest.raises(ValueError, match="a CLIP of digest of another"):
        TrainingFree(clip, NAMES, CORR, regions=halves, bank=bank)
    with pytest.raises(ValueError, match="each region has one of both"):
        bank_of(torch.ones(2, 64), torch.ones(1, 32))

    def nothing(shown: Image.Image) -> torch.Tensor:
        return torch.full((shown.height, shown.width), -1)

    with pytest.raises(ValueError, match="a bank without a region"):
        build_bank(clip, [image], readout=CORR.readout, regions=nothing, shortest=48, progress=False)
    bank.save(tmp_path / "bank")
    (tmp_path / "bank/regions.json").write_text('{"guide": "clip"}')
    with pytest.raises(ValueError, match="holds no bank of regions"):
        RegionBank.load(tmp_path / "bank")
    with pytest.raises(ValueError, match="bank_top=0"):
        replace(CORR, bank_top=0)
