"""One embedding for each region of a dense map: RoIAlign for boxes, weighted means for masks."""

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

FARTHEST: Final = 8.0
"""No box in shares of its image reaches farther; those in pixels do."""


def pool_boxes(dense_BDYX: Tensor, boxes_norm: Sequence[Tensor]) -> Tensor:
    """Averages the dense map over boxes by RoIAlign with one bin, adaptive sampling, half-pixel alignment.

    Source: CLIPSelf (arXiv:2310.01403), Sec. 3.2. The map is normalised before pooling; the result is not normalised
    again, since the loss does so itself.

    Args:
        dense_BDYX: Dense map (B, D, Y, X).
        boxes_norm: For each image its boxes (r, 4), `xyxy` in [0, 1] of the image behind the map.

    Returns:
        Region embeddings (R, D): the first image's boxes, then the second's.

    Raises:
        ValueError: The number of box tensors is not the number of images, one is not (r, 4), or boxes on a CPU are not
            finite, are pixels or have swapped corners.
    """
    if len(boxes_norm) != dense_BDYX.shape[0]:
        raise ValueError(
            f"{len(boxes_norm)} sets of boxes for {dense_BDYX.shape[0]} images; pass one (r, 4) tensor an image"
        )
    boxes_norm = [torch.as_tensor(boxes) for boxes in boxes_norm]  # of arrays and lists too
    for index, boxes in enumerate(boxes_norm):
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f"boxes of image {index} are {tuple(boxes.shape)}, expected (r, 4) with xyxy rows")
        if boxes.device.type == "cpu" and boxes.numel() and not float(boxes.abs().max()) <= FARTHEST:  # NaN too
            raise ValueError(
                f"boxes of image {index} reach {float(boxes.abs().max()):g}, expected shares of the image in [0, 1]; "
                "divide pixels by its width and height (normalize_boxes)"
            )
        if boxes.device.type == "cpu" and bool((boxes[:, 2:] < boxes[:, :2]).any()):
            raise ValueError(f"boxes of image {index} have swapped corners, expected (r, 4) with xyxy rows")
    rows, cols = dense_BDYX.shape[-2:]
    cells = torch.tensor([cols, rows, cols, rows], dtype=torch.float32, device=dense_BDYX.device)
    # float32 whatever the map's type: a box that ends on a whole cell sits on a step of the sample count.
    scaled = [(boxes.to(cells) * cells).to(dense_BDYX.dtype) for boxes in boxes_norm]
    pooled: Tensor = roi_align(dense_BDYX, scaled, output_size=1, spatial_scale=1.0, sampling_ratio=-1, aligned=True)
    return pooled[..., 0, 0]


def pool_masks(dense_BDYX: Tensor, masks: Sequence[Tensor]) -> Tensor:
    """Averages the dense map over masks and normalises the result.

    Source: CLIPSelf, released evaluation of thing and stuff masks.

    Args:
        dense_BDYX: Dense map (B, D, Y, X).
        masks: For each image its masks (r, Y, X) at grid resolution, weights in [0, 1] or booleans.

    Returns:
        Region embeddings (R, D) of unit length; an empty mask gives zeros, not NaN.

    Raises:
        ValueError: The number of mask tensors is not the number of images, or a mask has another grid.
    """
    if len(masks) != dense_BDYX.shape[0]:
        raise ValueError(
            f"{len(masks)} sets of masks for {dense_BDYX.shape[0]} images; pass one (r, Y, X) tensor an image"
        )
    pooled = []
    for index, (dense_DYX, mask_rYX) in enumerate(zip(dense_BDYX, masks, strict=True)):
        if mask_rYX.shape[1:] != dense_DYX.shape[1:]:
            raise ValueError(
                f"masks of image {index} are {tuple(mask_rYX.shape)}, the dense map has a grid of "
                f"{tuple(dense_DYX.shape[1:])}; bring them to the grid with resize_masks_to_grid"
            )
        weights = mask_rYX.to(dense_DYX).flatten(1)
        total = weights.sum(1, keepdim=True)
        pooled.append((weights @ dense_DYX.flatten(1).mT) / (total + 1e-12))
    return F.normalize(torch.cat(pooled), dim=-1)


def pool_mask_logits(features_BCYX: Tensor, masks_BQyx: Tensor) -> Tensor:
    """Averages features under predicted masks: the pixels whose logit is above zero, without a gradient to the mask.

    Source: FC-CLIP (arXiv:2308.02487) and ODISE (arXiv:2303.04803), released code.

    Args:
        features_BCYX: Features.
        masks_BQyx: Mask logits at any resolution.

    Returns:
        (B, Q, C); zeros for a mask without a pixel.
    """
    masks = masks_BQyx.detach()
    if masks.shape[-2:] != features_BCYX.shape[-2:]:
        masks = F.interpolate(masks, size=features_BCYX.shape[-2:], mode="bilinear", align_corners=False)
    hard = (masks > 0).to(features_BCYX.dtype).flatten(2)
    return (hard / (hard.sum(-1, keepdim=True) + 1e-8)) @ features_BCYX.flatten(2).mT
