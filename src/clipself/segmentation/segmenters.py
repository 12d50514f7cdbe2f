"""Which segmenters there are: how each is built, trained, put together again and used."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.head_folder import Heads
from clipself.backbones.transformer import require_blocks
from clipself.backbones.weights import read_state_dict
from clipself.data.semantic import SemanticImages
from clipself.segmentation.catseg.appearance import ResNetGuidance
from clipself.segmentation.catseg.inference import CatSegInference
from clipself.segmentation.catseg.loss import CatSegMethod
from clipself.segmentation.catseg.model import CLIP_LR_SCALE, CatSeg, catseg_settings, choose_learning
from clipself.segmentation.catseg.segmenter import CatSegSegmenter
from clipself.segmentation.catseg.settings import CatSegSettings, TrainClip
from clipself.segmentation.config import SegmentationTrainConfig
from clipself.segmentation.published_clip import load_all
from clipself.segmentation.san.loss import SanMethod
from clipself.segmentation.san.model import San, san_settings
from clipself.segmentation.san.segmenter import SanSegmenter
from clipself.segmentation.san.settings import SanSettings
from clipself.segmentation.segmenter import Segmenter

HEADS_OF: Final = 40
"""Width of an attention head in SAN's side network."""
CANVAS_OF_CROP: Final = 640 / 384
"""Side of CAT-Seg's canvas over that of its windows, as published."""

Model = CatSeg | San


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedAs:
    """What the card keeps of a run beside the settings of its model."""

    method: Literal["catseg", "san"]
    train_clip: TrainClip = "none"
    crop: int

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= 2**14:
            raise ValueError(f"crop={self.crop} is no side of a picture in pixels")


def build_model(config: SegmentationTrainConfig, clip: DenseCLIP) -> Model:
    """A model with new weights on a CLIP, by the settings of a run."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        if config.method == "san":
            return San(clip, _san_of(config, clip))
        settings = _catseg_of(config, clip)
        model = CatSeg(clip, settings, appearance=_appearance_of(settings, config.appearance))
        with torch.no_grad():
            model.aggregator.conv1.weight.mul_(config.cost_gain)
            bias: Any = model.aggregator.head.bias
            bias.add_(math.log(config.class_prior / (1 - config.class_prior)))
        return model


def _appearance_of(settings: CatSegSettings, weights: Path | None) -> nn.Module | None:
    if settings.appearance == "clip":
        return None
    guidance = ResNetGuidance(image_size=settings.image_size)
    if weights is not None:
        load_all(guidance.network, read_state_dict(weights), source=str(weights))
    return guidance


def _catseg_of(config: SegmentationTrainConfig, clip: DenseCLIP) -> CatSegSettings:
    settings = catseg_settings(clip, image_size=config.image_size, release=config.release)
    if config.readout is not None:
        settings = replace(settings, readout=config.readout)
    if config.hidden is None:
        return settings
    scale = config.hidden / settings.aggregator.hidden
    first, second = (max(8, round(width * scale)) for width in settings.aggregator.decoder_channels)
    sizes = replace(
        settings.aggregator,
        hidden=config.hidden,
        projected=config.hidden,
        decoder_channels=(first, second),
        decoder_projected=(max(4, first // 2), max(4, second // 2)),
    )
    return replace(settings, aggregator=sizes)


def _san_of(config: SegmentationTrainConfig, clip: DenseCLIP) -> SanSettings:
    settings = san_settings(clip)
    side = replace(settings.side, patch=clip.patch_size, table_size=config.crop // clip.patch_size * clip.patch_size)
    if config.side_width is not None:
        heads = max(1, config.side_width // HEADS_OF)
        side = replace(side, width=config.side_width, heads=heads, channels=config.side_width)
    if config.queries is not None:
        side = replace(side, queries=config.queries)
    scale = settings.clip_scale if config.clip_scale is None else config.clip_scale
    if config.logit_scale is not None:
        settings = replace(settings, logit_scale=config.logit_scale)
    return replace(settings, side=side, clip_scale=scale, learn_positions=config.learn_positions)


def make_method(config: SegmentationTrainConfig, model: Model, data: SemanticImages) -> CatSegMethod | SanMethod:
    """The loss of a run."""
    if isinstance(model, San):
        return SanMethod(model, data.class_names, ignore_label=data.ignore_label, num_points=config.num_points)
    return CatSegMethod(
        model,
        data.class_names,
        ignore_label=data.ignore_label,
        ignored=config.ignored,
        classes_per_step=config.classes_per_step,
        seed=config.seed,
        texts_learn=config.train_clip == "queries-values",
    )


def parameter_groups(model: Model, config: SegmentationTrainConfig) -> list[dict[str, Any]]:
    """What learns, at which share of the rate, with or without decay.

    Norms and embeddings (positions, queries, background, padding) do not decay; CLIP's weights in CAT-Seg learn at a
    hundredth of the rate, as published.
    """
    if isinstance(model, CatSeg):
        head, backbone = choose_learning(model, config.train_clip)
        scales = [(head, 1.0), (backbone, CLIP_LR_SCALE)]
    else:
        scales = [(model.learning(), 1.0)]
    still = _without_decay(model)
    groups = []
    for parameters, scale in scales:
        for decays in (True, False):
            chosen = [parameter for parameter in parameters if (id(parameter) not in still) == decays]
            decay = config.weight_decay if decays else 0.0
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "lr_scale": scale})
    return groups


def _without_decay(model: Model) -> set[int]:
    norms = (nn.LayerNorm, nn.GroupNorm)
    still = {id(p) for module in model.modules() if isinstance(module, norms) for p in module.parameters()}
    if isinstance(model, San):
        side = model.side
        tables = (
            side.query_embed,
            side.query_pos_embed,
            side.vit_model.pos_embed,
            require_blocks(model.clip, "SAN").position_table,
        )
        still |= {id(table) for table in tables}
    return still


def segmenter_of(
    model: Model,
    names: Sequence[str],
    *,
    crop: int,
    mode: Any = "sliding",
    canvas: int | None = None,
    class_cap: int | None = None,
    shortest: int | None = None,
) -> Segmenter:
    """A trained model with a vocabulary; windows of the training crop on a canvas 640 / 384 times as wide."""
    if isinstance(model, CatSeg):
        side = canvas or round(crop * CANVAS_OF_CROP)
        how = CatSegInference(mode=mode, canvas=side, window=min(crop, side), class_cap=class_cap)
        return CatSegSegmenter(model, names, how=how, shortest=shortest or side)
    return SanSegmenter(model, names, shortest=shortest or crop)


def rebuild_model(heads: Heads) -> Model:
    """The model of a folder, with its weights.

    Raises:
        ValueError: They do not fit the settings in its card.
    """
    kept = heads.facts(TrainedAs)
    model: Model
    if kept.method == "san":
        side = heads.settings(SanSettings)
        model = heads.build(lambda: San(heads.clip, side))
    else:
        settings = heads.settings(CatSegSettings)
        model = heads.build(lambda: CatSeg(heads.clip, settings, appearance=_appearance_of(settings, None)))
        choose_learning(model, kept.train_clip)
    heads.fill(model, own=own_state(model))
    return model


def own_state(model: Model) -> dict[str, Tensor]:
    """What a folder keeps: all weights but those of CLIP that do not learn."""
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {
        name: tensor for name, tensor in model.state_dict().items() if name in learning or not name.startswith("clip.")
    }
