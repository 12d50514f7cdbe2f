"""CAT-Seg: a dense CLIP whose cosines with the class names are refined by the cost aggregator.

Source: CAT-Seg (arXiv:2303.11797). The second release guides the aggregator by CLIP's own taps and is the default here;
the first, which CLIPSelf (arXiv:2310.01403) used, takes a second backbone for that.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.readouts import find_readout
from clipself.backbones.text import embed_sentences
from clipself.backbones.trainable import freeze_idle, train_queries_and_values, train_visual_attention
from clipself.backbones.transformer import require_blocks
from clipself.backbones.trunk import ClipReading
from clipself.ops.patches import require_whole
from clipself.segmentation.catseg.aggregator import CostAggregator
from clipself.segmentation.catseg.settings import AggregatorSettings, CatSegSettings, TrainClip

CLIP_LR_SCALE: Final = 0.01
"""Learning rate of CLIP's weights over that of the aggregator."""

SCENE: Final = "A photo of a {} in the scene"
"""The one sentence of the second release."""


class CatSeg(nn.Module):
    """The whole model.

    Args:
        clip: Any dense CLIP; the model has a copy of its own, whose weights may learn.
        settings: How it is built.
        appearance: The second backbone of the first release: images (B, 3, S, S) in CLIP's normalisation -> maps at
            1, 2 and 4 times the grid; None guides by CLIP itself.

    Raises:
        ValueError: The sizes do not fit the CLIP.
    """

    def __init__(self, clip: DenseCLIP, settings: CatSegSettings, *, appearance: nn.Module | None = None) -> None:
        super().__init__()
        trunk, sizes = require_blocks(clip, "CAT-Seg"), settings.aggregator
        require_whole(settings.image_size, clip.patch_size, what="image_size")
        if not 0 <= settings.taps[0] < settings.taps[1] < trunk.depth - 1:
            raise ValueError(f"taps {settings.taps} must ascend ahead of the last block {trunk.depth - 1}")
        if sizes.text_channels != clip.embed_dim:
            raise ValueError(f"the aggregator takes texts of {sizes.text_channels}, {clip.name} has {clip.embed_dim}")
        find_readout(settings.readout)
        self.clip, self.settings, self.appearance = clip.copy(), settings, appearance
        self.aggregator = CostAggregator(sizes)
        if appearance is None:
            self.upsample1, self.upsample2 = (
                nn.ConvTranspose2d(trunk.width, channels, kernel_size=factor, stride=factor)
                for channels, factor in zip(sizes.decoder_guidance_channels, (2, 4), strict=True)
            )

    def forward(
        self,
        images_B3SS: Tensor,
        texts: Tensor | Sequence[str],
        *,
        pooling: int = 1,
        class_cap: int | None = None,
        classes_at_once: int | None = None,
    ) -> Tensor:
        """Class logits (B, T, 4 Y, 4 X).

        Args:
            images_B3SS: Normalised images at `settings.image_size`.
            texts: Of `embed_names`, (T, P, D); or the names, where the text tower learns and many processes take part.
            pooling: See `CostAggregator`: 2 in training, 1 else.
            class_cap: Most classes looked at; None looks at all.
            classes_at_once: Bounds memory; the numbers stay.
        """
        texts_TPD = texts if isinstance(texts, Tensor) else self.embed_names(texts)
        read = self.read_clip(images_B3SS)
        return self.aggregator(  # type: ignore[no-any-return]
            read.dense,
            texts_TPD[None],
            self.guide(images_B3SS, read),
            pooling=pooling,
            class_cap=class_cap,
            classes_at_once=classes_at_once,
        )

    def read_clip(self, images_B3SS: Tensor) -> ClipReading:
        """Dense map (B, D, Y, X), not normalised, and the taps (B, C, Y, X) that guide, where there are any."""
        return self.clip.read(images_B3SS, taps=self.taps, dense=True, readout=self.settings.readout, normalize=False)

    @property
    def taps(self) -> tuple[int, ...]:
        """The blocks of CLIP that guide; none beside a second backbone."""
        return self.settings.taps if self.appearance is None else ()

    def guide(self, images_B3SS: Tensor, read: ClipReading) -> list[Tensor]:
        """What the aggregator is guided by: maps at 1, 2 and 4 times the grid."""
        if self.appearance is not None:
            return list(self.appearance(images_B3SS))
        assert read.dense is not None
        return [read.dense, self.upsample1(read.taps[0]), self.upsample2(read.taps[1])]

    def embed_names(self, names: Sequence[str]) -> Tensor:
        """Texts (T, P, D) of unit length; with gradient where the text tower learns.

        Source: the two releases: one sentence and the first synonym, or 80 sentences and the mean over the synonyms.

        Args:
            names: Class names; synonyms follow after ", ".

        Raises:
            ValueError: There are no names.
        """
        sentences = [SCENE] if self.settings.templates == "scene" else self.settings.templates
        each_SPD, counts = embed_sentences(self.clip, names, templates=sentences)
        some = [rows[:1] if self.settings.synonyms == "first" else rows for rows in torch.split(each_SPD, list(counts))]
        return F.normalize(torch.stack([rows.mean(0) for rows in some]), dim=-1)

    def prepare(self, pixels_B3HW: Tensor) -> Tensor:
        """Pixels in 0..255 -> CLIP's normalisation, squashed bilinearly to the square that CLIP sees."""
        return self.squash(self.normalize(pixels_B3HW))

    def normalize(self, pixels_B3HW: Tensor) -> Tensor:
        """Pixels in 0..255 -> CLIP's normalisation."""
        mean, std = (
            pixels_B3HW.new_tensor(values)[:, None, None] * 255
            for values in (self.clip.image_mean, self.clip.image_std)
        )
        return (pixels_B3HW - mean) / std

    def squash(self, images_B3HW: Tensor) -> Tensor:
        """Bilinear, without antialiasing, to the square that CLIP sees."""
        side = self.settings.image_size
        if images_B3HW.shape[-2:] == (side, side):
            return images_B3HW
        return F.interpolate(images_B3HW, size=(side, side), mode="bilinear", align_corners=False)


def choose_learning(model: CatSeg, train_clip: TrainClip) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Freezes what does not learn.

    Args:
        model: The model.
        train_clip: "queries-values" of both towers (second release), "visual-attention" with the position table (first
            release), or "none".

    Returns:
        Weights of the model itself, and those of CLIP, which learn at `CLIP_LR_SCALE` of the rate.
    """
    model.requires_grad_(False)
    head = [*model.aggregator.parameters()]
    if model.appearance is None:
        head += [*model.upsample1.parameters(), *model.upsample2.parameters()]
    for parameter in head:
        parameter.requires_grad_(True)
    backbone: list[nn.Parameter] = []
    trunk = require_blocks(model.clip, "CAT-Seg")
    if train_clip == "queries-values":
        backbone = train_queries_and_values(model.clip.clip)
    elif train_clip == "visual-attention":
        backbone = train_visual_attention(trunk, trunk.position_table)
    freeze_idle(trunk, trunk.tower.parameters(), readout=model.settings.readout, taps=model.taps)
    backbone = [parameter for parameter in backbone if parameter.requires_grad]
    if model.appearance is not None and train_clip != "none":
        residual = [parameter for parameter in model.appearance.parameters()]
        for parameter in residual:
            parameter.requires_grad_(True)
        backbone += residual
    return head, backbone


def catseg_settings(clip: DenseCLIP, *, image_size: int | None = None, release: Literal[1, 2] = 2) -> CatSegSettings:
    """The published settings on a CLIP: the square with a 24 x 24 grid, taps after a third and two thirds.

    Args:
        clip: The CLIP.
        image_size: Another square, in pixels.
        release: 2, or 1 with ResNet-101 beside CLIP.
    """
    depth = require_blocks(clip, "CAT-Seg").depth
    side = image_size or 24 * clip.patch_size
    sizes = AggregatorSettings(text_channels=clip.embed_dim, guidance_channels=clip.embed_dim)
    settings = CatSegSettings(
        image_size=side,
        taps=(depth // 3 - 1, 2 * depth // 3 - 1),
        aggregator=replace(sizes, window=fitting_window(side // clip.patch_size, sizes.window)),
    )
    if release == 2:
        return settings
    first = replace(
        settings.aggregator, guidance_channels=1024, decoder_guidance_channels=(512, 256), prompts=80, pad_classes=0
    )
    return replace(
        settings, readout="value", templates="imagenet", synonyms="mean", appearance="resnet101", aggregator=first
    )


def fitting_window(grid: int, window: int) -> int:
    """The largest divisor of the grid that is not larger than the window wanted."""
    return next(side for side in range(min(window, grid), 0, -1) if grid % side == 0)
