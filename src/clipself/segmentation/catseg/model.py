"""CAT-Seg: a dense CLIP whose cosines with the class names are refined by the cost aggregator.

Source: CAT-Seg (arXiv:2303.11797). The second release guides the aggregator by CLIP's own taps and is the default here;
the first, which CLIPSelf (arXiv:2310.01403) used, takes a second backbone for that.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

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
from clipself.segmentation.catseg.appearance import APPEARANCES, Guidance
from clipself.segmentation.catseg.settings import AggregatorSettings, CatSegSettings, TrainClip
from clipself.segmentation.learning import decay_apart, norms_of
from clipself.segmentation.segmenter import SegmenterModel
from clipself.text.templates import load_templates

CLIP_LR_SCALE: Final = 0.01
"""Learning rate of CLIP's weights over that of the aggregator."""

SCENE: Final = "A photo of a {} in the scene"
"""The one sentence of the second release."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CatSegReading:
    """What is looked at of images, whatever the names are.

    Attributes:
        dense_BDYX: Dense map, not normalised.
        guidance: Maps at 1, 2 and 4 times the grid.
    """

    dense_BDYX: Tensor
    guidance: tuple[Tensor, ...]


class CatSeg(SegmenterModel):
    """The whole model.

    Args:
        clip: Any dense CLIP; the model has a copy of its own, whose weights may learn.
        settings: How it is built; what is None follows from the CLIP.
        appearance: The second backbone of the first release: images (B, 3, S, S) in CLIP's normalisation -> maps at
            1, 2 and 4 times the grid; None guides by CLIP itself.

    Raises:
        ValueError: The sizes do not fit the CLIP.
    """

    settings: CatSegSettings

    def __init__(
        self, clip: DenseCLIP, settings: CatSegSettings | None = None, *, appearance: nn.Module | None = None
    ) -> None:
        super().__init__()
        settings = complete(settings or CatSegSettings(), clip)
        trunk = require_blocks(clip, "CAT-Seg")
        sizes, side, taps = settings.aggregator, settings.image_size, settings.taps
        assert sizes is not None
        assert side is not None
        assert taps is not None
        require_whole(side, clip.patch_size, what="image_size")
        if not 0 <= taps[0] < taps[1] < trunk.depth - 1:
            raise ValueError(f"taps {taps} must ascend ahead of the last block {trunk.depth - 1}")
        if sizes.text_channels != clip.embed_dim:
            raise ValueError(f"the aggregator takes texts of {sizes.text_channels}, {clip.name} has {clip.embed_dim}")
        self.clip, self.settings, self.appearance = clip.copy(), settings, appearance
        self.image_size, self.readout = side, str(settings.readout)
        find_readout(self.readout)
        self.taps: tuple[int, ...] = taps if appearance is None else ()
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
        return self.aggregate(
            self.read(images_B3SS), texts_TPD, pooling=pooling, class_cap=class_cap, classes_at_once=classes_at_once
        )

    def read(self, images_B3SS: Tensor) -> CatSegReading:
        """What CLIP, and a second backbone, see of normalised images at `image_size`."""
        read = self.read_clip(images_B3SS)
        assert read.dense is not None
        return CatSegReading(dense_BDYX=read.dense, guidance=tuple(self.guide(images_B3SS, read)))

    def aggregate(self, reading: CatSegReading, texts_TPD: Tensor, **how: Any) -> Tensor:
        """Class logits (B, T, 4 Y, 4 X) of what was read; see `CostAggregator.forward` for `how`."""
        logits: Tensor = self.aggregator(reading.dense_BDYX, texts_TPD[None], reading.guidance, **how)
        return logits

    def read_clip(self, images_B3SS: Tensor) -> ClipReading:
        """Dense map (B, D, Y, X), not normalised, and the taps (B, C, Y, X) that guide, where there are any."""
        return self.clip.read(images_B3SS, taps=self.taps, dense=True, readout=self.readout, normalize=False)

    def guide(self, images_B3SS: Tensor, read: ClipReading) -> list[Tensor]:
        """What the aggregator is guided by: maps at 1, 2 and 4 times the grid."""
        if self.appearance is not None:
            return list(self.appearance(images_B3SS))
        assert read.dense is not None
        return [read.dense, self.upsample1(read.taps[0]), self.upsample2(read.taps[1])]

    def embed_names(self, names: Sequence[str], *, shown: Mapping[str, Tensor] | None = None) -> Tensor:
        """Texts (T, P, D) of unit length; with gradient where the text tower learns.

        Source: the two releases: one sentence and the first synonym, or 80 sentences and the mean over the synonyms.

        Args:
            names: Class names; synonyms follow after ", ".
            shown: Names that are known by examples, by a row (D,) of each.

        Raises:
            ValueError: There are no names.
        """
        each_SPD, counts = embed_sentences(self.clip, names, templates=_sentences(self.settings), shown=shown)
        some = [rows[:1] if self.settings.synonyms == "first" else rows for rows in torch.split(each_SPD, list(counts))]
        return F.normalize(torch.stack([rows.mean(0) for rows in some]), dim=-1)

    def prepare(self, pixels_B3HW: Tensor) -> Tensor:
        """Pixels in 0..255 -> CLIP's normalisation, squashed bilinearly to the square that CLIP sees."""
        return self.squash(self.normalize(pixels_B3HW))

    def squash(self, images_B3HW: Tensor) -> Tensor:
        """Bilinear, without antialiasing, to the square that CLIP sees."""
        side = self.image_size
        if not torch.compiler.is_exporting() and images_B3HW.shape[-2:] == (side, side):  # a graph takes every size
            return images_B3HW
        return F.interpolate(images_B3HW, size=(side, side), mode="bilinear", align_corners=False)


def complete(settings: CatSegSettings, clip: DenseCLIP) -> CatSegSettings:
    """Fills in what follows from the release and the CLIP: a grid of 24 x 24, taps after a third and two thirds.

    Args:
        settings: What is None is filled in.
        clip: The CLIP.
    """
    trunk, first = require_blocks(clip, "CAT-Seg"), settings.release == 1
    depth = trunk.depth
    side = settings.image_size or 24 * clip.patch_size
    settings = replace(
        settings,
        image_size=side,
        taps=settings.taps or (depth // 3 - 1, 2 * depth // 3 - 1),
        readout=settings.readout or ("value" if first else "catseg"),
        templates=settings.templates or ("imagenet" if first else "scene"),
        synonyms=settings.synonyms or ("mean" if first else "first"),
        appearance=settings.appearance or (_beside(trunk.width) if first else "clip"),
    )
    sizes = settings.aggregator or _sizes(settings, clip, grid=side // clip.patch_size)
    return replace(settings, hidden=sizes.hidden, aggregator=sizes)


def _sizes(settings: CatSegSettings, clip: DenseCLIP, *, grid: int) -> AggregatorSettings:
    published = AggregatorSettings()
    guided_by_clip = settings.appearance == "clip"
    coarsest, *finer = (0, 0, 0) if guided_by_clip else APPEARANCES[str(settings.appearance)].channels
    hidden = settings.hidden or published.hidden
    coarse, fine = (max(8, round(width * hidden / published.hidden)) for width in published.decoder_channels)
    return replace(
        published,
        text_channels=clip.embed_dim,
        guidance_channels=clip.embed_dim if guided_by_clip else coarsest,
        decoder_guidance_channels=published.decoder_guidance_channels if guided_by_clip else (finer[0], finer[1]),
        prompts=len(_sentences(settings)),
        hidden=hidden,
        projected=hidden,
        decoder_channels=(coarse, fine),
        decoder_projected=(max(4, coarse // 2), max(4, fine // 2)),
        window=fitting_window(grid, published.window),
        pad_classes=0 if settings.release == 1 else published.pad_classes,
    )


def _beside(width: int) -> Literal["resnet101", "swin_b"]:
    """The first release puts a larger network beside towers that are wider than B."""
    return "resnet101" if width <= 768 else "swin_b"


def _sentences(settings: CatSegSettings) -> list[str]:
    templates = str(settings.templates)
    return [SCENE] if templates == "scene" else load_templates(templates)


def catseg_settings(clip: DenseCLIP, *, image_size: int | None = None, release: Literal[1, 2] = 2) -> CatSegSettings:
    """The published settings on a CLIP.

    Args:
        clip: The CLIP.
        image_size: Another square than that of 24 x 24 patches, in pixels.
        release: 2, or 1 with a second backbone beside CLIP.
    """
    return complete(CatSegSettings(image_size=image_size, release=release), clip)


def fitting_window(grid: int, window: int) -> int:
    """The largest divisor of the grid that is not larger than the window wanted."""
    return next(side for side in range(min(window, grid), 0, -1) if grid % side == 0)


def build_catseg(clip: DenseCLIP, settings: CatSegSettings, *, crop: int) -> CatSeg:
    """A new model of which only what shall learn requires gradients.

    Args:
        clip: The CLIP.
        settings: How it is built and what learns.
        crop: Side of the training crops, in pixels; squashed to `image_size`.
    """
    del crop
    settings = complete(settings, clip)
    appearance = None
    if settings.appearance != "clip":
        appearance = APPEARANCES[str(settings.appearance)](grid=(settings.image_size or 0) // clip.patch_size)
        if settings.appearance_weights is not None:
            appearance.start_from(settings.appearance_weights)
    model = CatSeg(clip, replace(settings, appearance_weights=None), appearance=appearance)
    with torch.no_grad():
        model.aggregator.conv1.weight.mul_(settings.cost_gain)
        bias: Any = model.aggregator.head.bias
        bias.add_(math.log(settings.class_prior / (1 - settings.class_prior)))
    choose_learning(model, settings.train_clip)
    return model


def choose_learning(model: CatSeg, train_clip: TrainClip) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Freezes what does not learn.

    Args:
        model: The model.
        train_clip: "queries-values" of both towers (second release), "visual-attention" with the position table (first
            release), or "none".

    Returns:
        Weights of the model itself, and those of CLIP and beside it, which learn at `CLIP_LR_SCALE` of the rate.
    """
    model.requires_grad_(False)
    head = [*model.aggregator.parameters()]
    if model.appearance is None:
        head += [*model.upsample1.parameters(), *model.upsample2.parameters()]
    for parameter in head:
        parameter.requires_grad_(True)
    trunk, backbone = require_blocks(model.clip, "CAT-Seg"), list[nn.Parameter]()
    if train_clip == "queries-values":
        backbone = train_queries_and_values(model.clip.clip)
    elif train_clip == "visual-attention":
        backbone = train_visual_attention(trunk, trunk.position_table)
    freeze_idle(trunk, trunk.tower.parameters(), readout=model.readout, taps=model.taps)
    if isinstance(model.appearance, Guidance) and model.appearance.learns and train_clip != "none":
        backbone += model.appearance.requires_grad_(True).parameters()
    return head, [parameter for parameter in backbone if parameter.requires_grad]


def catseg_groups(model: CatSeg, *, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW's groups: norms do not decay, CLIP and the backbone beside it learn at a hundredth of the rate."""
    beside = [part for part in (model.clip, model.appearance) if part is not None]
    slow = {id(parameter) for part in beside for parameter in part.parameters()}
    learning, still = [one for one in model.parameters() if one.requires_grad], norms_of(model)
    return [
        group
        for is_slow, scale in ((False, 1.0), (True, CLIP_LR_SCALE))
        for group in decay_apart(
            [one for one in learning if (id(one) in slow) == is_slow], still, weight_decay=weight_decay, lr_scale=scale
        )
    ]
