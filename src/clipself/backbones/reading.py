"""One pass of an image tower for all that a readout may ask: a guide, regions, windows, windows that meet."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.backbones.guided_mixes import spread
from clipself.backbones.guides import Guide, GuidingClip, find_guide, guide_tap
from clipself.backbones.readout_context import ReadoutContext
from clipself.backbones.readouts import Readout, read_last_block
from clipself.backbones.tokens import Tokens, join_heads, split_heads, to_map
from clipself.backbones.transformer import TransformerTrunk
from clipself.backbones.trunk import ClipReading, Trunk
from clipself.ops.patches import require_whole
from clipself.ops.pixels import plain_pixels
from clipself.ops.windows import Window, place_windows

WINDOWS_AT_ONCE: Final = 8
"""Windows in one pass of the tower."""
OWN_GUIDE: Final = "clip"
"""The guide that needs no pass of its own: what enters the tower's last block."""


def read_images(
    clip: GuidingClip,
    images_B3HW: Tensor,
    *,
    taps: Sequence[int],
    dense: bool,
    pooled: bool,
    readout: Readout,
    guide: Tensor | Guide | str | None = None,
    regions_BHW: Tensor | None = None,
) -> ClipReading:
    """What `DenseCLIP.read` gives, not normalised; but for windows, whose dense maps are averaged as unit vectors.

    Raises:
        ValueError: The readout has no use for regions, or a window does not fit the patches or the tower.
    """
    if readout.after is not None:
        return _read_after(
            clip, images_B3HW, taps=taps, dense=dense, pooled=pooled, readout=with_regions(readout, regions_BHW),
            guide=guide,
        )  # fmt: skip
    trunk, readout = clip.trunk, with_regions(readout, regions_BHW)
    if not readout.window or max(images_B3HW.shape[-2:]) <= readout.window:
        found = _guide_map(clip, images_B3HW, readout, guide)
        return trunk.read(images_B3HW, taps=taps, dense=dense, pooled=pooled, readout=readout, guide=found)
    trunk.grid_of(images_B3HW)
    size = (images_B3HW.shape[-2], images_B3HW.shape[-1])
    whole = trunk.read(images_B3HW, taps=(), dense=False, pooled=True, readout=readout).pooled if pooled else None
    if not (dense or taps):
        return ClipReading(pooled=whole)
    windows = _windows_of(size, readout, patch=clip.patch_size)
    if readout.stitch:
        read = _read_stitched(clip, images_B3HW, windows, taps=taps, dense=dense, readout=readout, guide=guide)
    else:
        read = _read_windows(
            clip, images_B3HW, windows, taps=taps, dense=dense, readout=readout, guide=guide, regions_BHW=regions_BHW
        )
    return replace(read, pooled=whole)


def with_regions(readout: Readout, regions_BHW: Tensor | None) -> Readout:
    """The readout with the regions of these images in its hands.

    Raises:
        ValueError: It has no use for regions.
    """
    if regions_BHW is None:
        return readout
    if not readout.takes_regions:
        raise ValueError("this readout has no use for regions; 'corrclip' has")
    if readout.after is not None:
        return replace(readout, after=partial(readout.after, regions_BHW=regions_BHW))
    return replace(readout, mix=partial(readout.function, regions_BHW=regions_BHW))


def _read_after(
    clip: GuidingClip,
    images_B3HW: Tensor,
    *,
    taps: Sequence[int],
    dense: bool,
    pooled: bool,
    readout: Readout,
    guide: Tensor | Guide | str | None,
) -> ClipReading:
    """The map as it is without a guide, in windows where there are some; then mixed by what the guide finds alike."""
    assert readout.after is not None
    found = _guide_map(clip, images_B3HW, readout, guide) if dense else None
    own = guide_tap(clip.trunk)
    known = [own] if dense and found is None and own not in taps else []
    plain = replace(readout, after=None, guide=OWN_GUIDE, options={})
    read = read_images(clip, images_B3HW, taps=sorted({*taps, *known}), dense=dense, pooled=pooled, readout=plain)
    handed = dict(zip(sorted({*taps, *known}), read.taps, strict=True))
    if dense:
        seen = handed[own] if found is None else found
        logits_BPP = readout.after(seen, **readout.options)
        read = replace(read, dense=spread(F.normalize(_there(read.dense), dim=1), seen, logits_BPP))
    return replace(read, taps=tuple(handed[tap] for tap in taps))


def _guide_map(
    clip: GuidingClip, images_B3HW: Tensor, readout: Readout, guide: Tensor | Guide | str | None
) -> Tensor | None:
    """The guide's features; None where the tower guides itself."""
    asked = readout.guide if guide is None else guide
    if isinstance(asked, Tensor):
        return asked
    if not readout.takes_guide or asked == OWN_GUIDE:
        return None
    pixels = plain_pixels(images_B3HW.detach(), mean=clip.image_mean, std=clip.image_std).float().clamp(0, 1)
    return find_guide(asked, clip=clip, device=images_B3HW.device)(pixels).to(images_B3HW)


# --- windows


def _windows_of(size: tuple[int, int], readout: Readout, *, patch: int) -> list[Window]:
    step = readout.stride or readout.window
    require_whole(readout.window, patch, what="window")
    require_whole(step, patch, what="stride")
    return place_windows(size, window=(readout.window,) * 2, stride=(step,) * 2)


def _read_windows(
    clip: GuidingClip,
    images_B3HW: Tensor,
    windows: Sequence[Window],
    *,
    taps: Sequence[int],
    dense: bool,
    readout: Readout,
    guide: Tensor | Guide | str | None,
    regions_BHW: Tensor | None = None,
) -> ClipReading:
    if isinstance(guide, Tensor):
        raise ValueError("a guide's features are of whole images; for a readout in windows pass the guide itself")
    inside, count = replace(readout, window=0, stride=0), len(images_B3HW)
    reads = []
    for some in _runs(windows, count):
        parts = _cut(images_B3HW, some)
        known = inside if regions_BHW is None else with_regions(readout, _cut(regions_BHW, some))
        found = _guide_map(clip, parts, inside, guide)
        reads.append(clip.trunk.read(parts, taps=taps, dense=dense, pooled=False, readout=known, guide=found))
    size = (images_B3HW.shape[-2], images_B3HW.shape[-1])
    join = partial(_join, windows=windows, size=size, batch=count, patch=clip.patch_size)
    return ClipReading(
        taps=tuple(join(torch.cat([read.taps[place] for read in reads])) for place in range(len(taps))),
        dense=join(torch.cat([F.normalize(_there(read.dense), dim=1) for read in reads])) if dense else None,
    )


def _runs(windows: Sequence[Window], batch: int) -> Iterator[Sequence[Window]]:
    step = max(1, WINDOWS_AT_ONCE // batch)
    return (windows[start : start + step] for start in range(0, len(windows), step))


def _cut(images: Tensor, windows: Sequence[Window]) -> Tensor:
    """All images of the first window, then of the next."""
    return torch.cat([images[..., top:bottom, left:right] for top, left, bottom, right in windows])


def _join(maps_VBKyx: Tensor, *, windows: Sequence[Window], size: tuple[int, int], batch: int, patch: int) -> Tensor:
    """Averages maps of windows where they overlap: (B, K, Y, X).

    On the maps' own cells where all windows begin on one; else, as a guide's grid may be, on the tower's.
    """
    top, left, bottom, right = windows[0]
    cells = [side / held for side, held in zip((bottom - top, right - left), maps_VBKyx.shape[-2:], strict=True)]
    edges = [edge for window in windows for edge in zip(window, (*cells, *cells), strict=True)]
    if any(edge % cell for edge, cell in edges):
        cells = [patch, patch]
        grid = ((bottom - top) // patch, (right - left) // patch)
        maps_VBKyx = F.interpolate(maps_VBKyx, size=grid, mode="bilinear", align_corners=False)
    rows, cols = (round(side / cell) for side, cell in zip(size, cells, strict=True))
    total = maps_VBKyx.new_zeros(batch, maps_VBKyx.shape[1], rows, cols)
    times = maps_VBKyx.new_zeros(rows, cols)
    for (top, left, _, _), map_BKyx in zip(windows, torch.split(maps_VBKyx, batch), strict=True):
        row, col = round(top / cells[0]), round(left / cells[1])
        place = (..., slice(row, row + map_BKyx.shape[-2]), slice(col, col + map_BKyx.shape[-1]))
        total[place] += map_BKyx
        times[place] += 1
    return total / times


def _there(dense: Tensor | None) -> Tensor:
    assert dense is not None
    return dense


# --- windows that meet in the last block


@dataclass(frozen=True, kw_only=True, slots=True)
class StitchedContext(ReadoutContext):
    """What a readout may look at where the tokens of windows meet.

    Queries, keys and values are made inside each window and averaged where windows overlap; rotary positions are those
    of the whole picture.

    Attributes:
        parts: What entered the last block of the windows, all images of the first window first.
        windows: Where they lie.
        patch: Side of a patch, in pixels.
    """

    parts: Tokens
    windows: Sequence[Window]
    patch: int

    def heads(self, part: str, *, block: int = -1) -> Tensor:
        """Of the last block alone; see `ReadoutContext.heads`."""
        module = self.trunk.blocks[block]
        inside = self.trunk.project(module, self.trunk.norm_attention(module, self.parts.tokens), part)
        met = split_heads(self.meet(join_heads(inside)), inside.shape[1])
        return met if part == "v" else self.trunk.rotate(met, self.tokens)

    def meet(self, parts_VBNC: Tensor) -> Tensor:
        """Tokens of windows -> tokens of the picture (B, N, C)."""
        prefix, batch = self.parts.prefix, len(self.images_B3HW)
        size = (self.images_B3HW.shape[-2], self.images_B3HW.shape[-1])
        maps = to_map(parts_VBNC[:, prefix:], self.parts.grid)
        joined = _join(maps, windows=self.windows, size=size, batch=batch, patch=self.patch)
        ahead = torch.stack(torch.split(parts_VBNC[:, :prefix], batch)).mean(0)
        return torch.cat([ahead, joined.flatten(2).mT], dim=1)


def _read_stitched(
    clip: GuidingClip,
    images_B3HW: Tensor,
    windows: Sequence[Window],
    *,
    taps: Sequence[int],
    dense: bool,
    readout: Readout,
    guide: Tensor | Guide | str | None,
) -> ClipReading:
    """Source: OV-Stitcher (arXiv:2604.08110): windows by themselves up to the last block, which sees all of them."""
    trunk: Trunk = clip.trunk
    if not isinstance(trunk, TransformerTrunk):
        raise ValueError(
            f"stitch=1 lets tokens meet in the last block, and {type(trunk.tower).__name__} has no blocks of tokens; "
            "read it in windows without stitch"
        )
    last, ahead = len(trunk.stages) - 1, [tap for tap in taps if tap < len(trunk.stages) - 1]
    needed = sorted({*ahead, last - 1})
    reads = [
        trunk.read(_cut(images_B3HW, some), taps=needed, dense=False, pooled=False, readout=readout)
        for some in _runs(windows, len(images_B3HW))
    ]
    stopped = [read.tokens for read in reads if read.tokens is not None]
    parts = stopped[0].with_tokens(torch.cat([each.tokens for each in stopped]))
    whole = trunk.embed(images_B3HW)
    context = StitchedContext(
        trunk=trunk, entered=(whole,), images_B3HW=images_B3HW, guide_BCyx=whole.tokens, parts=parts, windows=windows,
        patch=clip.patch_size,
    )  # fmt: skip
    tokens = whole.with_tokens(context.meet(parts.tokens))
    found = _guide_map(clip, images_B3HW, readout, guide)
    context = replace(context, entered=(tokens,), guide_BCyx=tokens.to_map() if found is None else found)
    out = read_last_block(context, readout)
    size = (images_B3HW.shape[-2], images_B3HW.shape[-1])
    maps = {
        tap: _join(torch.cat([read.taps[needed.index(tap)] for read in reads]), windows=windows, size=size,
                   batch=len(images_B3HW), patch=clip.patch_size)
        for tap in ahead
    }  # fmt: skip
    maps[last] = out.to_map()
    return ClipReading(
        taps=tuple(maps[tap] for tap in taps),
        dense=to_map(trunk.head(out.tokens[:, out.prefix :]), out.grid) if dense else None,
    )
