"""Anchors, deltas, levels, matching and sampling against hand-made truths and torchvision where it is right."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign, box_iou, roi_align

from clipself.ops import decode_boxes, draw_sample, encode_boxes, grid_anchors, match_boxes, pool_levels, roi_levels
from clipself.ops.matching import BACKGROUND, NEITHER

STDS = (0.1, 0.1, 0.2, 0.2)


def some_boxes(count: int, *, side: float = 100.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * side * 0.7
    return torch.cat([corner, corner + 2 + torch.rand(count, 2, generator=generator) * side * 0.3], dim=1)


def test_anchors_keep_a_stride_that_is_not_whole() -> None:
    anchors = grid_anchors((256, 256), stride=3.5).reshape(256, 256, 3, 4)
    centre = (anchors[255, 255, 1, :2] + anchors[255, 255, 1, 2:]) / 2
    assert centre.tolist() == [892.5, 892.5]
    sides = (anchors[..., 2:] - anchors[..., :2])[0, 0]
    torch.testing.assert_close(sides.prod(1), torch.full((3,), (3.5 * 8) ** 2))
    torch.testing.assert_close(sides[:, 1] / sides[:, 0], torch.tensor([0.5, 1.0, 2.0]))


def test_torchvisions_anchors_are_off_at_that_stride_and_agree_at_whole_ones() -> None:
    """Why there is a generator of our own."""
    theirs = AnchorGenerator(sizes=((28.0,),), aspect_ratios=((0.5, 1.0, 2.0),))
    canvas = ImageList(torch.zeros(1, 3, 896, 896), [(896, 896)])
    off = theirs(canvas, [torch.zeros(1, 1, 256, 256)])[0]
    assert float((off - grid_anchors((256, 256), stride=3.5)).abs().max()) > 100
    theirs = AnchorGenerator(sizes=((32.0,),), aspect_ratios=((1.0,),))
    canvas = ImageList(torch.zeros(1, 3, 64, 64), [(64, 64)])
    (whole,) = theirs(canvas, [torch.zeros(1, 1, 16, 16)])
    torch.testing.assert_close(whole, grid_anchors((16, 16), stride=4, ratios=(1.0,)))


def test_deltas_agree_with_torchvision_and_come_back() -> None:
    boxes, targets = some_boxes(20), some_boxes(20, seed=1)
    deltas = encode_boxes(boxes, targets, stds=STDS)
    coder = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
    torch.testing.assert_close(deltas, coder.encode_single(targets, boxes))
    torch.testing.assert_close(decode_boxes(boxes, deltas, stds=STDS), targets, atol=1e-4, rtol=1e-5)


def test_boxes_without_area_give_finite_deltas() -> None:
    flat = torch.tensor([[5.0, 5.0, 5.0, 9.0]])
    assert encode_boxes(flat, some_boxes(1), stds=STDS).isfinite().all()
    assert encode_boxes(some_boxes(1), flat, stds=STDS).isfinite().all()


def test_levels_follow_the_formula() -> None:
    boxes = some_boxes(200, side=1200)
    expected = [
        min(3, max(0, math.floor(math.log2(math.sqrt((x1 - x0) * (y1 - y0)) / 56 + 1e-6))))
        for x0, y0, x1, y1 in boxes.tolist()
    ]
    assert roi_levels(boxes, levels=4).tolist() == expected


def test_pooling_reads_each_box_from_its_level_and_torchvision_does_not_at_such_strides() -> None:
    strides = (3.5, 7.0, 14.0, 28.0)
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 3, round(224 / s), round(224 / s), generator=generator) for s in strides]
    boxes = [some_boxes(6, side=224), some_boxes(5, side=224, seed=1)]
    pooled = pool_levels(maps, boxes, strides=strides, output_size=2)
    rows = [(image, box) for image, some in enumerate(boxes) for box in some]
    for row, (image, box) in zip(pooled, rows, strict=True):
        level = int(roi_levels(box[None], levels=4))
        alone = roi_align(maps[level][image : image + 1], [box[None]], 2, 1 / strides[level], -1, True)
        torch.testing.assert_close(row, alone[0])
    named = dict(zip("0123", maps, strict=True))
    theirs = MultiScaleRoIAlign(list("0123"), output_size=2, sampling_ratio=0)(named, boxes, [(224, 224)] * 2)
    assert float((theirs - pooled).abs().max()) > 0.1
    with pytest.raises(ValueError, match="4 maps and 3 strides"):
        pool_levels(maps, boxes, strides=strides[:3], output_size=2)


def test_pooling_has_a_gradient_and_takes_images_without_boxes() -> None:
    maps = [torch.ones(2, 1, 8, 8, requires_grad=True)]
    pooled = pool_levels(maps, [torch.zeros(0, 4), some_boxes(2, side=8)], strides=[1.0], output_size=1)
    torch.autograd.backward(pooled.sum())
    assert maps[0].grad is not None
    assert maps[0].grad[0].sum() == 0
    assert maps[0].grad[1].sum() > 0
    assert pool_levels(maps, [torch.zeros(0, 4)] * 2, strides=[1.0], output_size=1).shape == (0, 1, 1, 1)


def test_matching_agrees_with_torchvision_where_the_rescue_has_no_floor() -> None:
    truth, anchors = some_boxes(7, seed=3), some_boxes(400, seed=4)
    iou = box_iou(truth, anchors)
    expected = Matcher(0.7, 0.3, allow_low_quality_matches=True)(iou)
    ours = match_boxes(iou, high=0.7, low=0.3, rescue=0.0)
    # torchvision gives a rescued anchor its own best truth, MMDetection the truth that rescues it: the sets are equal.
    assert torch.equal(ours >= 0, expected >= 0)
    assert torch.equal(ours == BACKGROUND, expected == -1)
    assert torch.equal(ours == NEITHER, expected == -2)


def test_rescue_has_a_floor_and_later_truths_win() -> None:
    iou = torch.tensor([[0.8, 0.4, 0.1, 0.0], [0.1, 0.5, 0.5, 0.0], [0.2, 0.5, 0.0, 0.1], [0.0, 0.0, 0.0, 0.25]])
    matched = match_boxes(iou, high=0.7, low=0.3, rescue=0.3)
    assert matched.tolist() == [0, 2, 1, BACKGROUND]
    assert match_boxes(iou, high=0.7, low=0.3).tolist() == [0, NEITHER, NEITHER, BACKGROUND]


def test_without_truths_all_is_background() -> None:
    assert match_boxes(torch.zeros(0, 3), high=0.7, low=0.3, rescue=0.3).tolist() == [BACKGROUND] * 3


def test_sampling_fills_up_with_background() -> None:
    matched = torch.tensor([0, BACKGROUND, NEITHER, 1, 2, BACKGROUND, BACKGROUND, BACKGROUND])
    generator = torch.Generator().manual_seed(0)
    positive, negative = draw_sample(matched, count=4, share=0.5, generator=generator)
    assert len(positive) == 2
    assert len(negative) == 2
    assert (matched[positive] >= 0).all()
    assert (matched[negative] == BACKGROUND).all()
    positive, negative = draw_sample(matched, count=100, share=0.5, generator=generator)
    assert positive.tolist() == [0, 3, 4]
    assert negative.tolist() == [1, 5, 6, 7]
