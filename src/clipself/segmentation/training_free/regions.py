"""Regions of a picture as numbers of its pixels: made of masks, brought to grids, averaged over, named by most."""

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.guided_mixes import NO_REGION
from clipself.data.semantic_training import shortest_size
from clipself.ops.patch_maps import regions_on_grid, unit_means
from clipself.ops.patches import nearest_whole
from clipself.segmentation.segmenter import LONGEST

RegionsOf = Callable[[Image.Image], Tensor]
"""Picture -> number of the region of every pixel (H, W), `NO_REGION` outside all."""


def bring(clip: DenseCLIP, image: Image.Image, regions_HW: Tensor, *, shortest: int) -> tuple[Tensor, Tensor]:
    """A picture and its regions at the size that they are read at: normalised pixels (3, h, w), regions (h, w)."""
    height, width = shortest_size((image.height, image.width), shortest, longest=LONGEST)
    size = (nearest_whole(height, clip.patch_size), nearest_whole(width, clip.patch_size))
    pixels = clip.preprocess(image, size=size)
    return pixels, on_grid(regions_HW.to(pixels.device), size)


def on_grid(regions_HW: Tensor, size: tuple[int, int]) -> Tensor:
    """Regions at another size: that of each cell's centre."""
    return regions_on_grid(regions_HW[None], size)[0]


def region_means(map_DYX: Tensor, regions_HW: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of the regions that a map has cells of (R), and the means over them, unit vectors (R, D)."""
    placed = on_grid(regions_HW, (map_DYX.shape[-2], map_DYX.shape[-1])).flatten()
    numbers, _, means = unit_means(map_DYX.flatten(1).T, placed)
    real = numbers != NO_REGION
    return numbers[real], means[real]


def most_common(labels_HW: Tensor, regions_HW: Tensor, *, classes: int) -> Tensor:
    """Each region's pixels under the label that most of them have; those of no region keep their own."""
    numbers, place_HW = torch.unique(regions_HW, return_inverse=True)
    counts = torch.bincount((place_HW * classes + labels_HW).flatten(), minlength=len(numbers) * classes)
    best = counts.reshape(len(numbers), classes).argmax(1)[place_HW]
    return labels_HW.where(regions_HW == NO_REGION, best)


def region_map(masks_QHW: Tensor) -> Tensor:
    """Masks, the best first, as numbers of pixels (H, W): where masks overlap the smaller one shows."""
    regions_HW = torch.full(masks_QHW.shape[1:], NO_REGION)
    for place in masks_QHW.flatten(1).sum(1).argsort(descending=True, stable=True).tolist():
        regions_HW[masks_QHW[place]] = place
    return regions_HW
