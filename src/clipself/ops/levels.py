"""RoIAlign over the levels of a pyramid whose strides need not be powers of two."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align


def roi_levels(boxes: Tensor, *, levels: int, finest: float = 56.0) -> Tensor:
    """The level that each box is read from: floor(log2(sqrt(area) / finest)), within the levels there are.

    Source: F-ViT (CLIPSelf, detection); 56 px for strides 4..32 and for 3.5..28 alike.

    Args:
        boxes: `xyxy` (R, 4) in pixels.
        levels: How many there are.
        finest: Root of the area from which level 1 begins to count, in pixels.

    Returns:
        Level (R,), 0 the finest.
    """
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=0).sqrt()
    return (side / finest + 1e-6).log2().floor().clamp(0, levels - 1).long()


def join_boxes(boxes: Sequence[Tensor] | Tensor) -> Tensor:
    """One (r, 4) tensor an image -> (R, 5) with the image's number in front; what is joined already stays."""
    if isinstance(boxes, Tensor):
        return boxes
    return torch.cat(
        [torch.cat([box.new_full((len(box), 1), float(image)), box], dim=-1) for image, box in enumerate(boxes)]
    )


def pool_levels(
    maps: Sequence[Tensor],
    boxes: Sequence[Tensor] | Tensor,
    *,
    strides: Sequence[float],
    output_size: int,
    finest: float = 56.0,
) -> Tensor:
    """Reads every box from its level, with the exact scale 1 / stride, half-pixel alignment and adaptive sampling.

    torchvision's `MultiScaleRoIAlign` rounds the scale to a power of two and does not align; see the tests.

    Args:
        maps: (B, C, Y, X), finest first.
        boxes: For each image its `xyxy` boxes (r, 4) in pixels; or all of them as `join_boxes` gives them.
        strides: Pixels of a cell of each map.
        output_size: Bins a side.
        finest: See `roi_levels`.

    Returns:
        (R, C, output_size, output_size): the first image's boxes, then the second's.

    Raises:
        ValueError: Maps and strides are not as many.
    """
    if len(maps) != len(strides):
        raise ValueError(f"{len(maps)} maps and {len(strides)} strides; each map needs the pixels of its cell")
    rois_R5 = join_boxes(boxes).to(maps[0].dtype)
    level_R = roi_levels(rois_R5[:, 1:], levels=len(maps), finest=finest)
    if torch.compiler.is_exporting():
        return _pool_every_level(maps, rois_R5, level_R, strides=strides, output_size=output_size)
    pooled = maps[0].new_zeros(len(rois_R5), maps[0].shape[1], output_size, output_size)
    for level, (features, stride) in enumerate(zip(maps, strides, strict=True)):
        rows = (level_R == level).nonzero().flatten()
        if len(rows):
            pooled = pooled.index_copy(
                0, rows, roi_align(features, rois_R5[rows], output_size, 1.0 / stride, sampling_ratio=-1, aligned=True)
            )
    return pooled


def _pool_every_level(
    maps: Sequence[Tensor], rois_R5: Tensor, level_R: Tensor, *, strides: Sequence[float], output_size: int
) -> Tensor:
    """The same without rows whose number depends on the boxes: elsewhere than on its level a box has no area."""
    pooled = []
    for level, (features, stride) in enumerate(zip(maps, strides, strict=True)):
        here_R1 = (level_R == level)[:, None]
        rois = torch.cat([rois_R5[:, :1], rois_R5[:, 1:] * here_R1], dim=1)
        read = roi_align(features, rois, output_size, 1.0 / stride, sampling_ratio=-1, aligned=True)
        pooled.append(read * here_R1[..., None, None])
    return torch.stack(pooled).sum(0)
