"""Attention by another model's similarities, in place of a block's own: ProxyCLIP, CorrCLIP.

The map stands on the guide's grid: values are resized to it, and no residual can be added. The same likeness may mix a
finished map instead, which leaves the last block as it was trained.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from clipself.backbones.readout_context import ReadoutContext
from clipself.ops.patch_maps import patch_cosines, regions_on_grid, unit_means

NO_REGION = -1
"""Value of pixels that belong to no region."""


def guided(context: ReadoutContext, *, beta: float = 1.2, gamma: float = 3.0) -> Tensor:
    """ProxyCLIP: attention by `likeness`, in place of the last block's own.

    Args:
        context: What may be looked at, the guide among it.
        beta: See `likeness`.
        gamma: See `likeness`.
    """
    return attend(context, likeness(context.guide_BCyx, beta=beta, gamma=gamma))


def within_regions(
    context: ReadoutContext,
    *,
    regions_BHW: Tensor | None = None,
    temperature: float = 0.25,
    merge: float = 0.8,
    join: float = 0.7,
    semantic: float = 0.0,
) -> Tensor:
    """CorrCLIP: attention by `regional_likeness`, in place of the last block's own.

    Source: CorrCLIP (arXiv:2411.10086), from its description: scope by masks, values by a guide, and a class token of
    each region as a second branch. The constants are ours, since no text names them; its third branch, of earlier
    blocks' features, is left out.

    Args:
        context: What may be looked at, the guide among it.
        regions_BHW: See `regional_likeness`.
        temperature: See `regional_likeness`.
        merge: See `regional_likeness`.
        join: See `regional_likeness`.
        semantic: Weight of the region's own class token: the last block's, with eyes for this region alone.
    """
    logits_BPP = regional_likeness(
        context.guide_BCyx, regions_BHW=regions_BHW, temperature=temperature, merge=merge, join=join
    )
    mixed = attend(context, logits_BPP)
    if not semantic:
        return mixed
    prefix, query = context.tokens.prefix, context.heads("q")
    asked = query[:, :, :1] if prefix else query.mean(2, keepdim=True)
    key, value = (on_guide_grid(context, context.heads(part)[:, :, prefix:]) for part in "kv")
    logits = (asked @ key.mT * key.shape[-1] ** -0.5).expand(-1, -1, key.shape[2], -1)
    by_region = logits.masked_fill(logits_BPP.isinf()[:, None], float("-inf")).softmax(-1) @ value
    return torch.cat([mixed[:, :, :prefix], mixed[:, :, prefix:] + semantic * by_region], dim=2)


# --- logits of patches for patches, of a guide's map alone


def likeness(guide_BCyx: Tensor, *, beta: float = 1.2, gamma: float = 3.0) -> Tensor:
    """ProxyCLIP's logits (B, P, P): patch cosines less their mean, negatives cut off.

    A patch sees itself in any case, which matters where all are alike.

    Args:
        guide_BCyx: A guide's map.
        beta: Share of the picture's mean cosine that is taken off.
        gamma: Sharpness.
    """
    cosine = patch_cosines(guide_BCyx.flatten(2).mT)
    logits = (cosine - beta * cosine.mean((1, 2), keepdim=True)) * gamma  # whatever else is in the batch
    others = ~torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)
    return logits.masked_fill((logits < 0) & others, float("-inf"))


def regional_likeness(
    guide_BCyx: Tensor,
    *,
    regions_BHW: Tensor | None = None,
    temperature: float = 0.25,
    merge: float = 0.8,
    join: float = 0.7,
) -> Tensor:
    """CorrCLIP's logits (B, P, P): a patch sees its own region alone, and there by the guide's cosines.

    Regions come from masks; those whose mean features are alike count as one, and pixels outside all masks as another.

    Args:
        guide_BCyx: A guide's map.
        regions_BHW: Number of the region of every pixel, `NO_REGION` outside all; if not given, patches side by side
            whose guide agrees make a region.
        temperature: Of the softmax over cosines.
        merge: Least cosine of two regions' mean features that makes them one.
        join: Least cosine of neighbours that makes them a region, where no regions are given.
    """
    patches_BPC, grid = guide_BCyx.flatten(2).mT, (guide_BCyx.shape[-2], guide_BCyx.shape[-1])
    cosine = patch_cosines(patches_BPC)
    if regions_BHW is None:
        regions_BP = torch.stack([grow_regions(one, grid, join=join) for one in cosine])
    else:
        regions_BP = regions_on_grid(regions_BHW, grid).flatten(1)
    unit_BPC = F.normalize(patches_BPC, dim=-1)
    each = zip(unit_BPC, regions_BP.to(guide_BCyx.device), strict=True)
    merged_BP = torch.stack([merge_regions(*one, least=merge) for one in each])
    return (cosine / temperature).masked_fill(merged_BP[:, :, None] != merged_BP[:, None], float("-inf"))


def spread(dense_BDYX: Tensor, guide_BCyx: Tensor, logits_BPP: Tensor) -> Tensor:
    """A finished map, resized to the guide's grid and mixed by its logits (B, D, y, x)."""
    grid = (guide_BCyx.shape[-2], guide_BCyx.shape[-1])
    resized = F.interpolate(dense_BDYX, size=grid, mode="bilinear", align_corners=False)
    mixed: Tensor = resized.flatten(2) @ logits_BPP.softmax(-1).to(resized).mT
    return mixed.reshape(resized.shape)


def attend(context: ReadoutContext, logits_BPP: Tensor) -> Tensor:
    """Values mixed by a guide's logits, on its grid; tokens ahead of the patches keep their own (B, h, N, d)."""
    value, prefix = context.heads("v"), context.tokens.prefix
    moved = on_guide_grid(context, value[:, :, prefix:])
    return torch.cat([value[:, :, :prefix], logits_BPP.softmax(-1).to(value)[:, None] @ moved], dim=2)


def on_guide_grid(context: ReadoutContext, patches_BhPD: Tensor) -> Tensor:
    """Heads of patches, resized bilinearly to the guide's grid."""
    batch, heads = patches_BhPD.shape[:2]
    maps = patches_BhPD.mT.reshape(batch * heads, -1, *context.tokens.grid)
    resized = F.interpolate(maps, size=context.guide_BCyx.shape[-2:], mode="bilinear", align_corners=False)
    return resized.flatten(2).mT.reshape(batch, heads, -1, patches_BhPD.shape[-1])


def grow_regions(cosine_PP: Tensor, grid: tuple[int, int], *, join: float) -> Tensor:
    """Neighbouring patches whose cosine is at least `join` belong together: the number of each patch's region (P)."""
    places = torch.arange(grid[0] * grid[1]).reshape(grid)
    pairs = torch.cat(
        [torch.stack([places[:, :-1], places[:, 1:]]).flatten(1), torch.stack([places[:-1], places[1:]]).flatten(1)], 1
    )
    held = cosine_PP.detach().cpu()
    return _components(pairs[:, held[pairs[0], pairs[1]] >= join].numpy(), len(held))


def merge_regions(unit_PC: Tensor, regions_P: Tensor, *, least: float) -> Tensor:
    """Numbers of regions (P) after those whose mean features have a cosine of at least `least` have become one.

    What belongs to no region stays by itself.
    """
    numbers, place_P, unit_RC = unit_means(unit_PC.detach(), regions_P)
    alike = unit_RC @ unit_RC.T >= least
    real = numbers != NO_REGION
    pairs = (alike & real[:, None] & real[None]).nonzero().T.cpu().numpy()
    return _components(pairs, len(numbers)).to(place_P.device)[place_P]


def _components(pairs_2E: "np.ndarray[Any, Any]", count: int) -> Tensor:
    links = coo_array((np.ones(pairs_2E.shape[1], dtype=bool), (pairs_2E[0], pairs_2E[1])), shape=(count, count))
    return torch.from_numpy(connected_components(links, directed=False)[1]).long()
