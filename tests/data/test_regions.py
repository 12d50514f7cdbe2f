"""Random boxes that are distilled."""

import math
import random
from pathlib import Path

import pytest
import torch
from tests.support.pictures import draw_pictures

from clipself.data.distill import DistillDataset
from clipself.data.preprocess import Preprocess
from clipself.data.regions import draw_boxes
from clipself.data.sources import ImageFolder

SIZE: tuple[int, int] = (300, 700)


def test_random_boxes_are_of_every_size() -> None:
    boxes = draw_boxes(SIZE, random.Random(0), max_split=32, max_regions=20_000).boxes
    height, width = SIZE
    assert torch.equal(boxes, boxes.clamp(min=0).minimum(torch.tensor([width, height, width, height]).float() + 1e-3))
    share = (boxes[:, 2:] - boxes[:, :2]) / torch.tensor([width, height])
    assert (share > 0).all()
    ratios, sizes = share[:, 0] / share[:, 1], share.prod(dim=-1).sqrt()
    assert 0.5 - 1e-3 <= float(ratios.min()) < 0.51
    assert 1.99 < float(ratios.max()) <= 2 + 1e-3
    # Log-uniform: a fifth of the drawn sizes in each fifth of the octaves; only those near the whole image are cut.
    octaves = -torch.log2(sizes) / math.log2(32)
    for fifth in (1, 2, 3, 4):
        found = float(((octaves >= fifth / 5) & (octaves < (fifth + 1) / 5)).float().mean())
        assert found == pytest.approx(0.2, abs=0.01)
    small = boxes[sizes < 0.5]
    middles = (small[:, :2] + small[:, 2:]) / 2 / torch.tensor([width, height])
    assert middles.mean(dim=0).tolist() == pytest.approx([0.5, 0.5], abs=0.01)


def test_random_boxes_follow_the_source_of_chance() -> None:
    once, again, other = (draw_boxes(SIZE, random.Random(seed), max_regions=7) for seed in (3, 3, 4))
    assert torch.equal(once.boxes, again.boxes)
    assert not torch.equal(once.boxes, other.boxes)
    assert once.boxes.shape == (7, 4)
    assert once.crop_boxes is once.boxes
    wide = draw_boxes(SIZE, random.Random(3), max_regions=7, enlarge=1.5)
    assert torch.equal(wide.boxes, once.boxes)
    assert not torch.equal(wide.crop_boxes, once.boxes)
    with pytest.raises(ValueError, match="max_split=0"):
        draw_boxes(SIZE, random.Random(0), max_split=0)


def test_random_boxes_are_regions_of_a_data_set(tmp_path: Path) -> None:
    draw_pictures(tmp_path, 2)
    plain = Preprocess(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    data = DistillDataset(
        ImageFolder(tmp_path), preprocess=plain, student_size=64, crop_size=32, regions="random-boxes", max_split=8,
        max_regions=5,
    )  # fmt: skip
    assert data[0, 1].crops_R3hw.shape == (5, 3, 32, 32)
    assert not torch.equal(data[0, 1].boxes_norm, data[1, 1].boxes_norm)
