"""Several pictures on one canvas, tile by tile: small things without small pictures.

Source: OWL-ViT (arXiv:2205.06230, appendix A1.3).
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from clipself.data.detection import DetectionDataset, DetectionSample
from clipself.data.jitter import SquareCanvas
from clipself.data.random_crop import RandomCrop


def lay_tiles(tiles: Sequence[Tensor]) -> Tensor:
    """K * k pictures (C, h, w) of one size, row by row -> (C, k * h, k * w).

    Raises:
        ValueError: Their number is no square, or their sizes differ.
    """
    side = round(len(tiles) ** 0.5)
    if side * side != len(tiles) or len({tile.shape for tile in tiles}) != 1:
        sizes = sorted({tuple(tile.shape) for tile in tiles})
        raise ValueError(f"{len(tiles)} tiles of sizes {sizes} fill no square; pass 1, 4, 9, ... of one size")
    rows = [torch.cat(list(tiles[row * side : (row + 1) * side]), dim=2) for row in range(side)]
    return torch.cat(rows, dim=1)


def move_to_tile(boxes: Tensor, place: int, *, tiles: int, size: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """`xyxy` boxes (r, 4) of a tile -> boxes of the mosaic, in the tile's units.

    Args:
        boxes: In units in which a tile is `size` = (height, width).
        place: Number of the tile, row by row.
        tiles: How many there are.
        size: Height and width of a tile.
    """
    row, col = divmod(place, round(tiles**0.5))
    x, y = col * size[1], row * size[0]
    return boxes + boxes.new_tensor([x, y, x, y])


def join_negatives(negatives: Iterable[Iterable[str]], instances: Iterable[str]) -> list[str]:
    """What is absent from a mosaic: absent from a tile and present in none, sorted."""
    return sorted(set().union(*negatives) - set(instances))


class MosaicDataset(Dataset[DetectionSample]):
    """Pictures of a data set, alone or several on one canvas; the first one keeps its name.

    Every draw follows from (seed, epoch, index), so neither workers nor processes change it.

    Args:
        whole: One picture on a canvas.
        chances: Weight of canvases with 1, 2, 3, ... pictures a side.

    Raises:
        ValueError: The pictures lie on no square canvas, or its side does not divide.
    """

    def __init__(self, whole: DetectionDataset, chances: Sequence[float]) -> None:
        framing: Any = whole.framing
        if not isinstance(framing, SquareCanvas | RandomCrop):
            raise ValueError(
                f"mosaics need pictures on a square canvas, and this detector frames them by {type(framing).__name__}; "
                "leave mosaics out"
            )
        sides = range(2, len(chances) + 1)
        uneven = [side for side in sides if framing.side % side]
        if uneven:
            raise ValueError(
                f"a canvas of {framing.side} px does not divide into {uneven[0]} tiles a side; choose an image_size "
                "that does, or fewer mosaics"
            )
        self.whole, self.chances = whole, tuple(chances)
        self.small = {
            side: DetectionDataset(
                whole.source, replace(framing, side=framing.side // side), seed=whole.seed, views=whole.views
            )
            for side in sides
        }

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, key: int | tuple[int, int]) -> DetectionSample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        view = epoch if self.whole.views is None else epoch % self.whole.views
        rng = random.Random(f"{self.whole.seed}/mosaic/{view}/{index}")
        (side,) = rng.choices(range(1, len(self.chances) + 1), self.chances)
        if side == 1:
            return self.whole[epoch, index]
        others = [rng.randrange(len(self)) for _ in range(side * side - 1)]
        return join_samples([self.small[side][epoch, one] for one in (index, *others)])


def join_samples(tiles: Sequence[DetectionSample]) -> DetectionSample:
    """K * k samples of one size on one canvas, row by row; absent is what a tile lacks and none holds."""
    first, count = tiles[0], len(tiles)
    side = round(count**0.5)
    height, width = first.image_3HW.shape[1:]
    present = {label for tile in tiles for label in tile.labels.tolist()}
    absent = {label for tile in tiles for label in tile.negatives.tolist()} - present
    masks = [tile.masks for tile in tiles if tile.masks is not None]
    placed = [
        F.pad(each, (col * width, (side - 1 - col) * width, row * height, (side - 1 - row) * height))
        for place, each in enumerate(masks)
        for row, col in (divmod(place, side),)
    ]
    return DetectionSample(
        image_3HW=lay_tiles([tile.image_3HW for tile in tiles]),
        size=(side * height, side * width),
        boxes=torch.cat(
            [move_to_tile(tile.boxes, place, tiles=count, size=(height, width)) for place, tile in enumerate(tiles)]
        ),
        labels=torch.cat([tile.labels for tile in tiles]),
        masks=torch.cat(placed) if len(placed) == count else None,
        name=first.name,
        row=first.row,
        negatives=torch.tensor(sorted(absent), dtype=torch.long),
    )
