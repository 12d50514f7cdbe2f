"""Targets and losses of centres, against loops over places and boxes."""

import math

import pytest
import torch
from torchvision.ops import generalized_box_iou_loss

from clipself.losses.centernet import (
    NOTHING,
    CentreRule,
    CentreTargets,
    answering_levels,
    centre_targets,
    distance_losses,
    heat_losses,
    level_points,
)

RULE = CentreRule(strides=(8, 16), ranges=((0, 20), (15.5, 1e7)), min_overlap=0.7, min_radius=6)
BOXES = [[(3.0, 5.0, 30.0, 21.0), (10.0, 4.0, 26.0, 30.0)], [], [(0.0, 0.0, 60.0, 40.0), (33.0, 8.0, 41.0, 15.0)]]
GRIDS = [(5, 8), (3, 4)]


def places() -> list[tuple[int, int, int, int, int]]:
    """Level, stride, image, x, y of every place, in the order of the targets."""
    return [
        (level, stride, image, col * stride + stride // 2, row * stride + stride // 2)
        for level, (stride, (rows, cols)) in enumerate(zip(RULE.strides, GRIDS, strict=True))
        for image in range(len(BOXES))
        for row in range(rows)
        for col in range(cols)
    ]


def made() -> CentreTargets:
    boxes = [torch.tensor(one).reshape(-1, 4) for one in BOXES]
    return centre_targets(boxes, GRIDS, rule=RULE)


def test_targets_are_those_of_loops() -> None:
    targets, delta = made(), (1 - 0.7) / (1 + 0.7)
    for place, (level, stride, image, x, y) in enumerate(places()):
        heat, best, wanted = 0.0, math.inf, [NOTHING] * 4
        for left, top, right, bottom in BOXES[image]:
            cx, cy = (left + right) / 2, (top + bottom) / 2
            cell = (cx // stride * stride + stride / 2, cy // stride * stride + stride / 2)
            square = 0.0 if (x, y) == cell else (x - cx) ** 2 + (y - cy) ** 2
            square /= max(2 * delta**2 * (right - left) * (bottom - top), 36)
            heat = max(heat, math.exp(-square))
            sides = [x - left, y - top, right - x, bottom - y]
            half = math.hypot(right - left, bottom - top) / 2
            near = abs(x - cell[0]) <= stride and abs(y - cell[1]) <= stride
            if min(sides) > 0 and near and RULE.ranges[level][0] <= half <= RULE.ranges[level][1] and square < best:
                best, wanted = square, [side / stride for side in sides]
        assert float(targets.heat_M[place]) == pytest.approx(heat if heat >= 1e-4 else 0.0, abs=1e-6)
        assert targets.distances_M4[place].tolist() == pytest.approx(wanted, abs=1e-6)
    assert len(targets.heat_M) == len(places())
    assert 0 < int(targets.regressed_M.sum()) < len(places())


def test_centres_lie_in_the_cells_of_the_levels_that_answer() -> None:
    expected = []
    for image, boxes in enumerate(BOXES):
        for left, top, right, bottom in boxes:
            for level, stride in enumerate(RULE.strides):
                if RULE.ranges[level][0] <= math.hypot(right - left, bottom - top) / 2 <= RULE.ranges[level][1]:
                    col, row = int((left + right) / 2 // stride), int((top + bottom) / 2 // stride)
                    at = (level, stride, image, col * stride + stride // 2, row * stride + stride // 2)
                    expected.append(places().index(at))
    targets = made()
    assert targets.centres_P.tolist() == expected
    assert targets.heat_M[targets.centres_P].tolist() == [1.0] * len(expected)
    assert int(answering_levels(torch.tensor(BOXES[0]), rule=RULE).sum()) == 3  # one box is looked for at both levels


def test_heat_losses_are_the_papers() -> None:
    targets = made()
    logits_M = 3 * torch.randn(len(targets.heat_M), generator=torch.Generator().manual_seed(0))
    centres = rest = 0.0
    for place in targets.centres_P.tolist():
        p = 1 / (1 + math.exp(-float(logits_M[place])))
        centres -= math.log(p) * (1 - p) ** 2
    for logit, heat in zip(logits_M.tolist(), targets.heat_M.tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        rest -= 0.0 if p >= 0.85 else math.log(1 - p) * p**2 * (1 - heat) ** 4
    found = heat_losses(logits_M, targets)
    assert [float(one) for one in found] == pytest.approx([0.25 * centres, 0.75 * rest], rel=1e-4)
    plain = heat_losses(logits_M, targets, alpha=-1)
    assert [float(one) for one in plain] == pytest.approx([centres, rest], rel=1e-4)


def test_distance_losses_are_the_generalised_overlap() -> None:
    """With 1 added to both areas of the first part; where boxes are large, torchvision's to the fourth digit."""
    points = level_points((2, 3), stride=8, like=torch.zeros(1))
    assert points.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]
    found, wanted = 1000 + 900 * torch.rand(2, 6, 4, generator=torch.Generator().manual_seed(0))
    boxes = [torch.cat([points - one[:, :2], points + one[:, 2:]], dim=1) for one in (found, wanted)]
    torch.testing.assert_close(distance_losses(found, wanted), generalized_box_iou_loss(*boxes), atol=1e-5, rtol=1e-4)
    by_hand = distance_losses(torch.tensor([[1.0, 1, 1, 1]]), torch.tensor([[1.0, 1, 3, 1]]))
    assert float(by_hand) == pytest.approx(1 - (4 + 1) / (8 + 1))  # areas 4 and 8, their hull is the larger one
