"""Masks as polygons along the borders of their pixels, and as one polygon where a format holds no more."""

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]
"""Corners (N, 2) of a closed line, x and y in pixels; the last is joined to the first."""


def trace_rings(mask_HW: NDArray[np.bool_]) -> list[Ring]:
    """The borders of a mask, corner by corner: outer ones clockwise as seen on the picture, holes the other way.

    Pixels that only touch at a corner are apart. Corners lie between pixels, so that the box around a ring is the tight
    box of its pixels, far side included.

    Args:
        mask_HW: Booleans.

    Returns:
        One ring a border, the longest first.
    """
    padded = np.pad(mask_HW.astype(bool), 1)
    inside, steps = padded[1:-1, 1:-1], []
    # The mask lies to the right of each step of one pixel: (dx, dy), and where its start is from the pixel's corner.
    for neighbour, start, step in (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (0, 1)),
        (padded[2:, 1:-1], (1, 1), (-1, 0)),
        (padded[1:-1, :-2], (0, 1), (0, -1)),
    ):
        rows, cols = np.nonzero(inside & ~neighbour)
        steps += [((x + start[0], y + start[1]), step) for x, y in zip(cols.tolist(), rows.tolist(), strict=True)]
    leaving: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for place, step in steps:
        leaving.setdefault(place, []).append(step)
    rings = []
    while leaving:
        rings.append(_follow(leaving))
    return sorted(rings, key=len, reverse=True)


def _follow(leaving: dict[tuple[int, int], list[tuple[int, int]]]) -> Ring:
    """Takes one ring out of the steps."""
    first = place = next(iter(leaving))
    last = (0, 0)
    corners: list[tuple[int, int]] = []
    while True:
        ways = leaving[place]
        right = (-last[1], last[0])  # where two pixels touch at a corner, the ring stays with its own
        step = right if len(ways) > 1 and right in ways else ways[0]
        ways.remove(step)
        if not ways:
            del leaving[place]
        if step != last:
            corners.append(place)
        place, last = (place[0] + step[0], place[1] + step[1]), step
        if place == first and place not in leaving:
            break
        if place == first and (-last[1], last[0]) not in leaving[place]:
            break
    ring = np.asarray(corners, dtype=np.float64)
    before, after = ring[0] - ring[-1], ring[1] - ring[0]
    return ring[1:] if before[0] * after[1] == before[1] * after[0] else ring  # it began in the middle of a side


def simplify_ring(ring: Ring, tolerance: float) -> Ring:
    """Fewer corners: none of those left out lies farther than `tolerance` pixels from the new ring.

    Source: Ramer (1972), Douglas and Peucker (1973). The corners farthest left, up, right and down stay, so that the
    box around it does.

    Args:
        ring: Corners (N, 2).
        tolerance: In pixels; 0 leaves the ring as it is.
    """
    if tolerance <= 0 or len(ring) < 5:
        return ring
    kept = np.zeros(len(ring), dtype=bool)
    kept[[ring[:, 0].argmin(), ring[:, 1].argmin(), ring[:, 0].argmax(), ring[:, 1].argmax()]] = True
    anchors = np.flatnonzero(kept).tolist()
    closed = np.concatenate([ring, ring])
    spans = [(a, b) for a, b in zip(anchors, [*anchors[1:], anchors[0] + len(ring)], strict=True)]
    while spans:
        start, end = spans.pop()
        if end - start < 2:
            continue
        distance = _distances(closed[start + 1 : end], closed[start], closed[end])
        farthest = int(distance.argmax())
        if distance[farthest] > tolerance:
            middle = start + 1 + farthest
            kept[middle % len(ring)] = True
            spans += [(start, middle), (middle, end)]
    return ring[kept] if kept.sum() >= 3 else ring


def _distances(points_N2: Ring, start: Ring, end: Ring) -> NDArray[np.float64]:
    """From a stretch of line, in pixels."""
    along = end - start
    length = float(along @ along)
    share = np.clip((points_N2 - start) @ along / length, 0, 1) if length else np.zeros(len(points_N2))
    foot = start + share[:, None] * along
    return np.asarray(np.hypot(*(points_N2 - foot).T))


def join_rings(rings: list[Ring]) -> Ring:
    """Several rings as one, by bridges of no width between their nearest corners: parts and holes in one polygon.

    What is inside is the same by either rule of filling, since holes turn the other way.

    Args:
        rings: At least one.
    """
    joined = rings[0]
    for ring in rings[1:]:
        gaps = ((joined[:, None] - ring[None]) ** 2).sum(-1)
        here, there = (int(place) for place in np.unravel_index(int(gaps.argmin()), gaps.shape))
        round_trip = np.concatenate([ring[there:], ring[: there + 1]])
        joined = np.concatenate([joined[: here + 1], round_trip, joined[here:]])
    return joined


def outline(mask_HW: NDArray[np.bool_], *, tolerance: float = 0.0) -> Ring | None:
    """A mask as one polygon; None where it has no pixel.

    Args:
        mask_HW: Booleans.
        tolerance: How far its border may move, in pixels; 0 keeps every pixel.
    """
    rings = [simplify_ring(ring, tolerance) for ring in trace_rings(mask_HW)]
    return join_rings(rings) if rings else None
