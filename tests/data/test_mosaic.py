"""Tiles on one canvas, by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.detection import COLOURS, write_blocks

from clipself.data.detection import CocoDetection, DetectionDataset
from clipself.data.jitter import SquareCanvas
from clipself.data.mosaic import MosaicDataset, join_negatives, join_samples, lay_tiles, move_to_tile
from clipself.data.preprocess import Preprocess
from clipself.data.short_side import ShortSide


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


def block_data(folder: Path, *, side: int = 64, **options: Any) -> DetectionDataset:
    source = CocoDetection(write_blocks(folder, 6), folder / "pictures", **options)
    return DetectionDataset(source, SquareCanvas(side=side, preprocess=Preprocess(mean=(0, 0, 0), std=(1, 1, 1))))


def test_boxes_of_a_mosaic_lie_on_what_they_mark(tmp_path: Path) -> None:
    whole = block_data(tmp_path)
    data = MosaicDataset(whole, (0.0, 1.0))
    sample = data[0, 3]
    assert sample.image_3HW.shape == (3, 64, 64)
    assert (sample.size, sample.name) == ((64, 64), whole.source.names[3])
    assert len(sample.boxes) > len(whole.source.labels(3))
    for box, label in zip(sample.boxes.round().long().tolist(), sample.labels.tolist(), strict=True):
        middle = sample.image_3HW[:, (box[1] + box[3]) // 2, (box[0] + box[2]) // 2] * 255
        distances = [float((middle - torch.tensor(colour)).abs().sum()) for colour in COLOURS]
        assert distances.index(min(distances)) == label
    again = data[0, 3]
    assert torch.equal(again.image_3HW, sample.image_3HW)
    assert not torch.equal(data[1, 3].image_3HW, sample.image_3HW)


def test_masks_and_what_is_absent_follow(tmp_path: Path) -> None:
    data = MosaicDataset(block_data(tmp_path, masks=True), (0.0, 1.0))
    sample = data[0, 2]
    assert sample.masks is not None
    for box, mask in zip(sample.boxes.tolist(), sample.masks, strict=True):
        rows, columns = mask.any(1).nonzero().flatten().tolist(), mask.any(0).nonzero().flatten().tolist()
        assert box == pytest.approx([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], abs=1.5)
    single = replace(sample, boxes=torch.zeros(1, 4), masks=None)
    facts = (([5, 7], [1]), ([1, 6], [2]), ([7], [5]), ([9], [9]))
    tiles = [replace(single, negatives=torch.tensor(rows), labels=torch.tensor(held)) for rows, held in facts]
    assert join_samples(tiles).negatives.tolist() == [6, 7]


def test_shares_of_mosaics_are_as_asked(tmp_path: Path) -> None:
    data = MosaicDataset(block_data(tmp_path), (0.5, 0.5))
    alone = sum(len(data[epoch, 0].labels) == len(data.whole[epoch, 0].labels) for epoch in range(100))
    assert 30 < alone < 70


def test_canvases_that_do_not_divide_are_refused(tmp_path: Path) -> None:
    whole = block_data(tmp_path)
    with pytest.raises(ValueError, match="64 px does not divide into 3 tiles a side"):
        MosaicDataset(whole, (0.4, 0.3, 0.3))
    whole.framing = ShortSide(side=64, longest=100, preprocess=Preprocess(mean=(0, 0, 0), std=(1, 1, 1)))
    with pytest.raises(ValueError, match="frames them by ShortSide"):
        MosaicDataset(whole, (0.5, 0.5))
