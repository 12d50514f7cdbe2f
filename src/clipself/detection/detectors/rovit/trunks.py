"""What RO-ViT's detector stands on: a transformer with windows, which learns or not, and what it says of regions."""

from abc import abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.readouts import Readout, ReadoutContext, find_readout, read_last_block
from clipself.backbones.tokens import Tokens, to_map
from clipself.backbones.trainable import train_whole
from clipself.backbones.transformer import TransformerTrunk, require_blocks
from clipself.backbones.trunk import Trunk
from clipself.backbones.trunks import view_trunk
from clipself.data.preprocess import Preprocess
from clipself.detection.detectors.rovit.published_names import read_plain_vit
from clipself.detection.detectors.rovit.settings import RoVitSettings
from clipself.detection.detectors.rovit.vit import PlainViT
from clipself.ops.pixels import plain_pixels
from clipself.ops.windows import join_windows, split_windows


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What a pass of the transformer gives.

    Attributes:
        map_BCYX: What the pyramid is made of.
        dense_BDYX: Embeddings of the patches for the second opinion; None where they were not asked for.
    """

    map_BCYX: Tensor
    dense_BDYX: Tensor | None


class DetectorVit(nn.Module):
    """A transformer under a detector.

    Attributes:
        patch: Side of a patch, in pixels.
        width: Channels of its map.
        pixels: How it wants its pictures normalised.
    """

    patch: int
    width: int
    pixels: Preprocess

    @abstractmethod
    def forward(self, images_B3HW: Tensor, *, dense: bool = False) -> Seen:
        """Normalised images -> their map, and the embeddings of patches where wanted."""

    def learning(self) -> list[nn.Parameter]:
        """What of it learns."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def start_from(self, weights: str | None) -> None:
        """Takes pre-trained weights, ahead of a training."""


class PlainTrunk(DetectorVit):
    """RO-ViT's own: its map behind the last norm is the second opinion too, or a frozen twin's is."""

    def __init__(self, clip: DenseCLIP, settings: RoVitSettings) -> None:
        super().__init__()
        self.patch, self.width = settings.patch, settings.width
        windows = settings.windows_of(settings.layers)
        self.vit = PlainViT(
            patch=settings.patch, width=settings.width, layers=settings.layers, heads=settings.heads,
            table=settings.table, windows=windows, shift=settings.shift,
        ).requires_grad_(settings.train_trunk)  # fmt: skip
        self.twin = deepcopy(self.vit).requires_grad_(False) if settings.twin else None
        self.twin_windows = (*[settings.windows] * (settings.layers - 1), 0)
        mean = Preprocess(mean=clip.image_mean, std=clip.image_std)
        # Padding is zero after normalisation, so that what is normalised by the mean is padded with it.
        self.pixels = mean if settings.padding == "mean" else Preprocess(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    def forward(self, images_B3HW: Tensor, *, dense: bool = False) -> Seen:
        """Pixels are brought back to [0, 1] first."""
        images_B3HW = plain_pixels(images_B3HW, mean=self.pixels.mean, std=self.pixels.std)
        map_BCYX = self.vit(images_B3HW)
        if not dense or self.twin is None:
            return Seen(map_BCYX=map_BCYX, dense_BDYX=map_BCYX if dense else None)
        with torch.no_grad():
            return Seen(map_BCYX=map_BCYX, dense_BDYX=self.twin(images_B3HW, windows=self.twin_windows))

    def start_from(self, weights: str | None) -> None:
        """Takes a file by the published names, for the twin too.

        Raises:
            ValueError: The file does not fit.
            FileNotFoundError: There is no such file.
        """
        if weights is not None:
            state = read_plain_vit(Path(weights), depth=len(self.vit.blocks), own=self.vit.state_dict())
            for vit in (self.vit, self.twin):
                if vit is not None:
                    vit.load_state_dict(state, strict=True)


class ClipTrunk(DetectorVit):
    """The CLIP's own transformer: a copy that learns, or itself.

    Args:
        clip: The CLIP; it stays frozen.
        settings: Of the detector.

    Raises:
        ValueError: Its image tower is no transformer with a class token.
    """

    def __init__(self, clip: DenseCLIP, settings: RoVitSettings) -> None:
        super().__init__()
        trunk = require_blocks(clip, "the detector rovit")
        self.patch, self.width = trunk.patch_size, trunk.width
        self.pixels = Preprocess(mean=clip.image_mean, std=clip.image_std)
        self.clip = clip.eval().requires_grad_(False)
        self.readout = find_readout(settings.readout)
        self.twin = settings.twin
        self.windows = settings.windows_of(trunk.depth)
        self.twin_windows = (*[settings.windows] * (trunk.depth - 1), 0)
        self.copy: nn.Module | None = None
        if settings.train_trunk:
            copy: Any = deepcopy(clip.clip.visual)
            train_whole(copy)
            self.copy = copy
            self._freeze_idle()

    def train(self, mode: bool = True) -> "ClipTrunk":
        """The CLIP stays in evaluation mode, and so do the batch norms of a copy."""
        super().train(mode)
        self.clip.train(False)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    @property
    def trunk(self) -> TransformerTrunk:
        """The one that the pyramid stands on."""
        found: Trunk = self.clip.trunk if self.copy is None else view_trunk(self.copy)
        assert isinstance(found, TransformerTrunk)
        found.gates = self.clip.gates  # a copy of the tower alone has none
        return found

    def forward(self, images_B3HW: Tensor, *, dense: bool = False) -> Seen:
        """One pass; a second one of the frozen CLIP where it is the twin."""
        apart = self.twin and self.copy is not None
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.copy is not None):
            entered, tokens = run_blocks(self.trunk, images_B3HW, self.windows)
            map_BCYX = unit_variance(tokens)
            read = self._read(self.trunk, entered, images_B3HW) if dense and not apart else None
        if dense and apart:
            frozen = self.clip.trunk
            assert isinstance(frozen, TransformerTrunk)
            with torch.no_grad():
                entered, _ = run_blocks(frozen, images_B3HW, self.twin_windows, last=False)
                read = self._read(frozen, entered, images_B3HW)
        return Seen(map_BCYX=map_BCYX, dense_BDYX=read)

    def _read(self, trunk: TransformerTrunk, entered: Sequence[Tokens], images_B3HW: Tensor) -> Tensor:
        return read_dense(trunk, entered, images_B3HW, self.readout)

    def _freeze_idle(self) -> None:
        """What the pyramid never sees, such as the projection, would be waited for by other processes."""
        learning, patch = self.learning(), self.patch
        like = next(self.trunk.tower.parameters())
        with torch.enable_grad():
            _, tokens = run_blocks(self.trunk, like.new_ones(1, 3, patch, 2 * patch), [0] * self.trunk.depth)
            seen = unit_variance(tokens).square().sum() + tokens.to_map().sum()
        gradients = torch.autograd.grad(seen, learning, allow_unused=True)
        for parameter, gradient in zip(learning, gradients, strict=True):
            if gradient is None:
                parameter.requires_grad_(False)


def run_blocks(
    trunk: TransformerTrunk, images_B3HW: Tensor, windows: Sequence[int], *, last: bool = True
) -> tuple[list[Tokens], Tokens]:
    """Runs a CLIP's blocks, most of them within windows, each of which has the class token beside its patches.

    The class token of the whole is the mean of those of the windows; CLIPs without windows have one, so that is ours.

    Args:
        trunk: The tower.
        images_B3HW: Normalised images.
        windows: Of each block along a side; 0 for one that looks everywhere.
        last: Whether the last block runs.

    Returns:
        What entered each block, and what came out of the last one that ran.
    """
    tokens, entered = trunk.embed(images_B3HW), []
    for block, count in zip(trunk.blocks, windows, strict=True):
        entered.append(tokens)
        if block is not trunk.blocks[-1] or last:
            tokens = tokens.with_tokens(run_within(trunk, block, tokens, count))
    return entered, tokens


def run_within(trunk: TransformerTrunk, block: nn.Module, tokens: Tokens, count: int) -> Tensor:
    """One block within `count` x `count` windows."""
    if count <= 1:
        return trunk.forward_block(block, tokens)
    rows, cols = tokens.grid
    batch, prefix = len(tokens.tokens), tokens.prefix
    patches = split_windows(tokens.to_map().permute(0, 2, 3, 1), count)
    ahead = tokens.tokens[:, :prefix].repeat_interleave(count * count, dim=0)
    rope = tokens.rope
    if rope is not None:
        rope = split_windows(rope.reshape(1, rows, cols, -1), count).repeat(batch, 1, 1)[:, None]
    inside = Tokens(
        tokens=torch.cat([ahead, patches], dim=1), grid=(rows // count, cols // count), rope=rope, prefix=prefix
    )
    out = trunk.forward_block(block, inside)
    whole = join_windows(out[:, prefix:], count, tokens.grid).flatten(1, 2)
    classes = out[:, :prefix].reshape(batch, count * count, prefix, -1).mean(1)
    return torch.cat([classes, whole], dim=1)


def read_dense(trunk: TransformerTrunk, entered: Sequence[Tokens], images_B3HW: Tensor, readout: Readout) -> Tensor:
    """The dense map (B, D, Y, X) of unit length by the readout, from what entered the last blocks."""
    context = ReadoutContext(
        trunk=trunk, entered=tuple(entered[-readout.reach(trunk) :]), images_B3HW=images_B3HW,
        guide_BCyx=entered[-1].to_map(),
    )  # fmt: skip
    read = read_last_block(context, readout)
    return F.normalize(to_map(trunk.head(read.tokens[:, read.prefix :]), read.grid), dim=1)


def unit_variance(tokens: Tokens) -> Tensor:
    """The map of the tokens, normalised over its channels: residual streams of several CLIPs differ in scale."""
    patches = tokens.tokens[:, tokens.prefix :]
    return to_map(F.layer_norm(patches, patches.shape[-1:]), tokens.grid)
