"""Draws from a mixture against counts, and views that are scaled and cut against the boxes in them."""

import random

import pytest
import torch
from PIL import Image

from clipself.data.jitter import letterbox
from clipself.data.mixture import mixture_weights, repeat_factors
from clipself.data.preprocess import Preprocess
from clipself.data.scale_crop import ScaleCrop, scale_cut


def test_rare_classes_repeat_by_the_root_of_what_they_lack() -> None:
    labels = [[0], [0], [0, 0, 1], []]
    assert repeat_factors(labels, threshold=0.5).tolist() == pytest.approx([1, 1, 2**0.5, 1])
    assert repeat_factors(labels, threshold=0.0).tolist() == [1, 1, 1, 1]


def test_kinds_share_the_draws_whatever_their_sizes() -> None:
    weights = mixture_weights([torch.ones(3), torch.tensor([1.0, 3.0])], (1, 4))
    total = sum(float(one.sum()) for one in weights)
    assert [float(one.sum()) / total for one in weights] == pytest.approx([0.2, 0.8])
    assert float(weights[1][1] / weights[1][0]) == pytest.approx(3)
    with pytest.raises(ValueError, match="2 kinds of pictures need as many shares above 0"):
        mixture_weights([torch.ones(3), torch.ones(2)], (1, 0))


def test_a_view_is_cut_where_its_boxes_say() -> None:
    picture = Image.new("RGB", (60, 40))
    picture.paste((255, 255, 255), (20, 10, 40, 30))
    pixels = Preprocess(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    framing = ScaleCrop(
        side=48, preprocess=pixels, scales=(0.5, 2.0), flip=0.5, whole=lambda one: letterbox(one, side=48)
    )
    sizes = set()
    for seed in range(30):
        framed = framing.train(picture, random.Random(seed))
        (box,) = framed.boxes(torch.tensor([[20.0, 10.0, 40.0, 30.0]])).tolist()
        held = framing.pixels(framed)
        assert held.shape[1:] == (framed.image.height, framed.image.width)
        rows, cols = (held[0] > 0.5).nonzero(as_tuple=True)
        seen = [int(cols.min()), int(rows.min()), int(cols.max()) + 1, int(rows.max()) + 1] if len(rows) else box
        assert box == pytest.approx(seen, abs=1.5)
        sizes.add(held.shape[1:])
    assert len(sizes) > 5
    assert framing.test(picture).image.size == (48, 32)


def test_a_small_result_is_not_padded() -> None:
    numbers = scale_cut((100, 200), side=64, jitter=0.5, shares=(0.9, 0.9))
    assert (numbers.scaled, numbers.offset, numbers.cut) == ((16, 32), (0, 0), (16, 32))
