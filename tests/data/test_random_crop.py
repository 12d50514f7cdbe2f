"""Random cuts on a grey canvas: pixels as torch's interpolation has them, boxes on what they mark."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from clipself.data.preprocess import Preprocess
from clipself.data.random_crop import RandomCrop

PIXELS = Preprocess(mean=(0.2, 0.2, 0.2), std=(0.5, 0.5, 0.5))


@pytest.mark.parametrize("size", [pytest.param((160, 120), id="smaller"), pytest.param((24, 32), id="larger")])
def test_the_whole_picture_is_resized_without_antialiasing_and_padded_with_grey(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))
    framing = RandomCrop(side=48, preprocess=PIXELS)
    framed = framing.test(picture)
    width, height = framed.image.size
    assert max(width, height) == 48
    raw = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float()
    wanted = F.interpolate(raw, size=(height, width), mode="bilinear", align_corners=False, antialias=False)
    ours = torch.from_numpy(np.array(framed.image)).permute(2, 0, 1)[None].float()
    assert float((wanted - ours).min()) > -0.01  # Pillow cuts decimals off
    assert float((wanted - ours).max()) < 1.01
    pixels = framing.pixels(framed)
    assert pixels.shape == (3, 48, 48)
    outside = torch.ones(48, 48, dtype=torch.bool)
    outside[:height, :width] = False
    torch.testing.assert_close(pixels[:, outside], torch.full((3, int(outside.sum())), 0.6))  # (0.5 - 0.2) / 0.5


def test_cuts_keep_to_area_and_shape_and_boxes_stay_on_what_they_mark() -> None:
    framing = RandomCrop(side=96, preprocess=PIXELS, area=(0.3, 0.9), flip=0.5, least_left=0.0)
    canvas = np.zeros((120, 160, 3), dtype=np.uint8)
    canvas[40:80, 60:110] = 255
    areas = []
    for seed in range(50):
        framed = framing.train(Image.fromarray(canvas), random.Random(seed))
        width, height = framed.image.size
        areas.append(width * height / framed.scale**2 / (120 * 160))
        assert 0.75 - 0.03 <= width / height <= 1.33 + 0.03
        rows, columns = (np.nonzero((np.array(framed.image)[..., 0] > 127).any(axis))[0] for axis in (1, 0))
        box = framed.boxes(torch.tensor([[60.0, 40.0, 110.0, 80.0]]))[0]
        if len(rows) and len(columns):
            found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            assert box.tolist() == pytest.approx(found, abs=1.5)
    assert 0.28 < min(areas) < 0.45
    assert 0.75 < max(areas) < 0.92


def test_boxes_of_which_too_little_is_left_have_no_area() -> None:
    framing = RandomCrop(side=100, preprocess=PIXELS, area=(1.0, 1.0), least_left=0.6)
    framed = framing.train(Image.new("RGB", (100, 100)), random.Random(0))
    boxes = framed.boxes(torch.tensor([[-50.0, 0.0, 50.0, 20.0], [-20.0, 0.0, 50.0, 20.0]]))
    assert boxes[0, :2].tolist() == boxes[0, 2:].tolist()
    assert boxes[1].tolist() == [0.0, 0.0, 50.0, 20.0]
