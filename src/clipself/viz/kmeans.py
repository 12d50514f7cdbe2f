"""K-means pictures of dense maps: what a map takes for one thing gets one colour.

Source: CLIPSelf (arXiv:2310.01403), Figure 1: clusters of the dense map before and after refining.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans

from clipself.viz.panels import lay_out

# Twelve colours that stay apart for most eyes, after Paul Tol's schemes and Tableau's ten.
COLOURS = np.array(
    [
        (78, 121, 167), (242, 142, 43), (89, 161, 79), (225, 87, 89), (118, 183, 178), (237, 201, 72), (176, 122, 161),
        (255, 157, 167), (156, 117, 95), (186, 176, 172), (30, 80, 60), (60, 30, 90),
    ],
    dtype=np.uint8,
)  # fmt: skip


def cluster_map(dense_DYX: NDArray[np.float32], *, clusters: int, seed: int = 0) -> NDArray[np.int64]:
    """Clusters the patches of one dense map.

    Args:
        dense_DYX: Unit vectors along the first axis.
        clusters: How many groups; fewer where the map has fewer patches.
        seed: Seed of the first centres.

    Returns:
        Group of each patch (Y, X), numbered by size, largest first.

    Raises:
        ValueError: There is less than one group.
    """
    if clusters < 1:
        raise ValueError(f"clusters={clusters} leaves nothing to colour; ask for at least 1")
    depth, rows, cols = dense_DYX.shape
    patches = dense_DYX.reshape(depth, -1).T
    groups = KMeans(min(clusters, len(patches)), n_init=4, random_state=seed).fit_predict(patches)
    by_size = np.argsort(-np.bincount(groups, minlength=clusters), kind="stable")
    rank = np.empty_like(by_size)
    rank[by_size] = np.arange(len(by_size))
    numbered: NDArray[np.int64] = rank[groups].reshape(rows, cols)
    return numbered


def match_groups(groups: NDArray[np.int64], reference: NDArray[np.int64], *, clusters: int) -> NDArray[np.int64]:
    """Renames groups so that those that overlap most with the reference share its number (Hungarian method)."""
    overlap = np.zeros((clusters, clusters), dtype=np.int64)
    np.add.at(overlap, (groups.ravel(), reference.ravel()), 1)
    ours, theirs = linear_sum_assignment(-overlap)
    rename = np.arange(clusters)
    rename[ours] = theirs
    return rename[groups]


def paint_groups(groups: NDArray[np.int64], *, size: tuple[int, int]) -> Image.Image:
    """Groups (Y, X) -> picture of `size` = (width, height), hard edges."""
    colours = COLOURS[groups % len(COLOURS)]
    return Image.fromarray(colours).resize(size, Image.Resampling.NEAREST)


def draw_kmeans(
    image: Image.Image,
    maps: Sequence[tuple[str, NDArray[np.float32]]],
    *,
    clusters: int = 6,
    opacity: float = 0.75,
    seed: int = 0,
) -> Image.Image:
    """One row: the picture, then each map's groups laid over it, colours matched from column to column.

    Args:
        image: The picture.
        maps: Title and dense map (D, Y, X) of each column; the last one names the colours.
        clusters: Groups of each map.
        opacity: Of the colours over the picture, in [0, 1].
        seed: Seed of the first centres.
    """
    grouped = [cluster_map(dense, clusters=clusters, seed=seed) for _, dense in maps]
    reference = grouped[-1]
    columns = [("image", image)]
    for (title, _), groups in zip(maps, grouped, strict=True):
        if groups.shape == reference.shape:
            groups = match_groups(groups, reference, clusters=clusters)
        painted = paint_groups(groups, size=image.size)
        columns.append((title, Image.blend(image, painted, opacity)))
    return lay_out([columns])
