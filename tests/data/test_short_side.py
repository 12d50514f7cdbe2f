"""Pictures by their short side: sizes as DETR computes them, boxes that stay on what they mark."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clipself.data.preprocess import Preprocess
from clipself.data.short_side import ShortSide, resized

PIXELS = Preprocess(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def test_sizes_are_those_of_the_published_rule() -> None:
    # size = side; if long / short * side > longest: size = round(longest * short / long); the other = int(size * ratio)
    assert resized(640, 480, side=800, longest=1333)[0] == (1066, 800)
    assert resized(480, 640, side=800, longest=1333)[0] == (800, 1066)
    assert resized(1000, 300, side=800, longest=1333)[0] == (1333, 400)
    assert resized(300, 300, side=800, longest=1333)[0] == (800, 800)
    assert resized(4, 20000, side=800, longest=1333)[0] == (1, 1333)


@pytest.mark.parametrize(
    "options", [{}, {"flip": 1.0}, {"crop": 1.0}, {"crop": 1.0, "flip": 1.0, "sides": (48, 80, 200)}]
)
def test_boxes_stay_on_what_they_mark(options: dict[str, Any]) -> None:
    framing = ShortSide(
        side=96, longest=140, preprocess=PIXELS, crop_sides=(80, 100), crop_range=(70, 90), **options
    )  # fmt: skip
    canvas = np.zeros((120, 160, 3), dtype=np.uint8)
    canvas[40:80, 60:110] = 255
    box = torch.tensor([[60.0, 40.0, 110.0, 80.0]])
    for seed in range(20):
        framed = framing.train(Image.fromarray(canvas), random.Random(seed))
        assert max(framed.image.size) <= 140
        lit = np.array(framed.image)[..., 0] > 127
        rows, columns = np.nonzero(lit.any(1))[0], np.nonzero(lit.any(0))[0]
        found = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        torch.testing.assert_close(framed.boxes(box)[0], found.float(), atol=1.6, rtol=0)
        mask = framed.mask(torch.from_numpy(canvas[..., 0] > 127), canvas=(framed.image.height, framed.image.width))
        assert (mask.numpy() != lit).mean() < 0.05
        assert framing.pixels(framed).shape == (3, framed.image.height, framed.image.width)


def test_the_cut_is_within_its_range_and_small_pictures_are_cut_less() -> None:
    framing = ShortSide(side=50, longest=400, preprocess=PIXELS, crop=1.0, crop_sides=(100,), crop_range=(60, 80))
    for seed in range(50):
        framed = framing.train(Image.new("RGB", (200, 100)), random.Random(seed))
        width, height = framed.image.width / framed.scale, framed.image.height / framed.scale
        assert 59 <= width <= 81
        assert 59 <= height <= 81
    tiny = ShortSide(side=50, longest=400, preprocess=PIXELS, crop=1.0, crop_sides=(20,), crop_range=(60, 80))
    assert tiny.train(Image.new("RGB", (200, 100)), random.Random(0)).image.size == (100, 50)


def test_whole_pictures_are_resized_as_pillow_does() -> None:
    picture = Image.effect_noise((90, 60), 80).convert("RGB")
    framing = ShortSide(side=40, longest=1000, preprocess=PIXELS)
    expected = picture.resize((60, 40), Image.Resampling.BILINEAR)
    assert np.array_equal(np.array(framing.test(picture).image), np.array(expected))
