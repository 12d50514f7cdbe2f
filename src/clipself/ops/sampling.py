"""Maps read between their cells, by additions, products and look-ups alone."""

import torch
from torch import Tensor


def read_between_cells(maps_NCYX: Tensor, places_NSP2: Tensor) -> Tensor:
    """What `grid_sample(maps, places, align_corners=False)` gives, for runtimes that compute that differently.

    Args:
        maps_NCYX: Maps; beyond their border lies zero.
        places_NSP2: `xy` in [-1, 1], whose ends are the outer sides of the first and last cell.

    Returns:
        (N, C, S, P), bilinear.
    """
    rows, cols = maps_NCYX.shape[-2:]
    cells_NCP, size = maps_NCYX.flatten(2), places_NSP2.shape[1:3]
    x, y = places_NSP2.flatten(1, 2).unbind(-1)
    x, y = (x + 1) * cols / 2 - 0.5, (y + 1) * rows / 2 - 0.5
    left, above = x.floor(), y.floor()
    read = torch.zeros_like(cells_NCP[:, :, :1])
    for row, share_y in ((above, above + 1 - y), (above + 1, y - above)):
        for col, share_x in ((left, left + 1 - x), (left + 1, x - left)):
            inside = (row >= 0) & (row < rows) & (col >= 0) & (col < cols)
            place = (row * cols + col).where(inside, 0).long()
            value = cells_NCP.gather(2, place[:, None].expand(-1, cells_NCP.shape[1], -1))
            read = read + value * (share_y * share_x * inside)[:, None]
    between: Tensor = read.unflatten(2, size)  # type: ignore[no-untyped-call]
    return between
