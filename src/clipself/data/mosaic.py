"""Several pictures on one canvas, tile by tile: small things without small pictures.

Source: OWL-ViT (arXiv:2205.06230, appendix A1.3).
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


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
