"""Boxes in another form are told by how they lie in their pictures."""

import numpy as np
import pytest

from clipself.ops.box_forms import are_shares, iou_of_rows, like_corners, odd_areas, repeated

PIXELS = np.array([[5.0, 5, 20, 20], [30, 10, 20, 30], [4, 4, 30, 30]])
LIMITS = np.array([[64.0, 48]] * 3)


def test_shares_lie_within_the_first_pixel() -> None:
    assert not are_shares(PIXELS, LIMITS)
    assert are_shares(PIXELS / [64, 48, 64, 48], LIMITS)
    assert are_shares(PIXELS / [64, 48, 64, 48], np.full_like(LIMITS, np.inf))
    assert not are_shares(PIXELS[:0], LIMITS[:0])
    assert not are_shares(np.zeros((2, 4)), LIMITS[:2])  # boxes of nothing are no shares


def test_corners_reach_beyond_their_picture() -> None:
    corners = np.concatenate([PIXELS[:, :2], PIXELS[:, :2] + PIXELS[:, 2:]], axis=1)
    assert like_corners(corners, LIMITS).tolist() == [1]  # 30 + 50 > 64
    assert not len(like_corners(PIXELS, LIMITS))
    assert not len(like_corners(corners, np.full_like(LIMITS, np.inf)))
    assert not len(like_corners(corners[1:2], LIMITS[1:2]))  # one box may be anything


@pytest.mark.parametrize(
    ("area", "odd"),
    [(400.0, False), (1.0, False), (0.0, True), (0.13, True), (800.0, False), (900.0, True), (np.nan, False)],
)
def test_areas_that_no_mask_in_the_box_has(area: float, odd: bool) -> None:
    assert bool(len(odd_areas(np.array([area]), PIXELS[:1]))) == odd  # of a box of 20 x 20


def test_rows_that_repeat_an_earlier_one() -> None:
    boxes = np.array([[1.0, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3, 4]])
    assert repeated(np.array([7, 7, 7, 7]), boxes).tolist() == [1, 3]
    assert repeated(np.array([7, 8, 7, 7]), boxes).tolist() == [3]
    assert repeated(np.array([0.0, -0.0])).tolist() == [1]
    assert not len(repeated(np.zeros(0), np.zeros((0, 4))))


def test_iou_of_rows_is_that_of_two_boxes() -> None:
    moved = PIXELS + np.array([10.0, 0, 0, 0])
    assert iou_of_rows(PIXELS, PIXELS).tolist() == [1, 1, 1]
    assert iou_of_rows(PIXELS, moved).tolist() == pytest.approx([200 / 600, 300 / 900, 600 / 1200])
    assert iou_of_rows(PIXELS, PIXELS + np.array([100.0, 0, 0, 0])).tolist() == [0, 0, 0]
    assert iou_of_rows(PIXELS, np.full((3, 4), np.nan)).tolist() == [1, 1, 1]
