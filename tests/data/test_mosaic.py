"""Tiles on one canvas, by hand."""

import pytest
import torch

from clipself.data.mosaic import join_negatives, lay_tiles, move_to_tile


def test_tiles_lie_row_by_row() -> None:
    tiles = [torch.full((1, 2, 3), float(number)) for number in range(4)]
    laid = lay_tiles(tiles)
    assert laid.shape == (1, 4, 6)
    assert laid[0, ::2, ::3].tolist() == [[0.0, 1.0], [2.0, 3.0]]


def test_boxes_move_with_their_tile() -> None:
    box = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert move_to_tile(box, 5, tiles=9, size=(10, 20)).tolist() == [[41.0, 12.0, 43.0, 14.0]]


def test_what_is_in_one_tile_is_absent_from_none() -> None:
    assert join_negatives([["b", "a"], ["c"]], ["c", "d"]) == ["a", "b"]


def test_other_numbers_of_tiles_are_refused() -> None:
    with pytest.raises(ValueError, match="3 tiles of sizes"):
        lay_tiles([torch.zeros(1, 2, 2)] * 3)
