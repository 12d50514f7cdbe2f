"""Settings of a run to a model; a trained model to a folder and back."""

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.stands_on import find_clip, name_clip
from clipself.backbones.weights import read_state_dict
from clipself.data.sources import read_json
from clipself.files import write_atomically, write_json
from clipself.segmentation.aggregator import AggregatorSettings
from clipself.segmentation.appearance import ResNetGuidance
from clipself.segmentation.catseg import CatSeg, CatSegSettings, catseg_settings, choose_learning
from clipself.segmentation.config import SegmentTrainConfig
from clipself.segmentation.published import load_all
from clipself.segmentation.san import San, SanSettings, san_settings
from clipself.segmentation.side_adapter import SideSettings

WEIGHTS: Final = "segmenter.safetensors"
CARD: Final = "segmenter.json"
HEADS_OF: Final = 40
"""Width of an attention head in SAN's side network."""

Model = CatSeg | San


def build_model(config: SegmentTrainConfig, clip: DenseCLIP) -> Model:
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


def _catseg_of(config: SegmentTrainConfig, clip: DenseCLIP) -> CatSegSettings:
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


def _san_of(config: SegmentTrainConfig, clip: DenseCLIP) -> SanSettings:
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


def own_state(model: Model) -> dict[str, Tensor]:
    """What a folder keeps: all weights but those of CLIP that do not learn."""
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if name in learning or not name.startswith("clip.")
    }


def save_segmenter(model: Model, folder: str | Path, *, config: SegmentTrainConfig, card: Mapping[str, Any]) -> Path:
    """Writes `segmenter.safetensors` and `segmenter.json`.

    Args:
        model: The model.
        folder: Made when missing.
        config: Settings of its run.
        card: More to keep: class names, the digest of CLIP's weights.

    Raises:
        OSError: The disk is full or the folder cannot be written.
    """
    folder = Path(folder)
    write_atomically(folder / WEIGHTS, lambda part: save_file(own_state(model), part))
    held = {
        "format": "clipself segmenter 1",
        "method": config.method,
        **name_clip(config.model, config.pretrained, folder=folder),
        "train_clip": config.train_clip,
        "crop": config.crop,
        "settings": asdict(model.settings),
        **card,
    }
    write_json(folder / CARD, held)
    return folder


def load_segmenter(folder: str | Path, *, clip: DenseCLIP | None = None, device: Any = "cpu") -> tuple[Model, Any]:
    """Builds a saved model with its CLIP, in evaluation mode.

    Args:
        folder: Written by `save_segmenter`.
        clip: The CLIP where it is loaded already; else the one named in the folder is loaded.
        device: Where all of it goes.

    Returns:
        The model, and what the folder says about it.

    Raises:
        FileNotFoundError: There is no model in the folder, or its CLIP has moved.
        ValueError: The weights or the CLIP are not those it was trained with.
    """
    folder = Path(folder)
    if not (folder / CARD).is_file() or not (folder / WEIGHTS).is_file():
        raise FileNotFoundError(f"no {CARD} with {WEIGHTS} in {folder}; pass a folder that `segment train` has written")
    card = read_json(folder / CARD)
    clip = find_clip(card, folder=folder, digest=card["clip_hash"], clip=clip)
    model = _rebuild(card, clip)
    state = load_file(folder / WEIGHTS)
    own = own_state(model)
    misfit = sorted(own.keys() ^ state.keys()) or [n for n in own if own[n].shape != state[n].shape]
    if misfit:
        raise ValueError(f"{folder / WEIGHTS} does not fit its own settings: {misfit[:3]}; was it copied in part?")
    model.load_state_dict({**model.state_dict(), **state}, strict=True)
    return model.to(device).eval(), card


def _rebuild(card: Mapping[str, Any], clip: DenseCLIP) -> Model:
    held = dict(card["settings"])
    if card["method"] == "san":
        side = held.pop("side")
        fusion = {int(tap): depth for tap, depth in side.pop("fusion").items()}
        return San(clip, SanSettings(**held, side=SideSettings(**_tuples(side), fusion=fusion)))
    sizes = AggregatorSettings(**_tuples(held.pop("aggregator")))
    settings = CatSegSettings(**_tuples(held), aggregator=sizes)
    model = CatSeg(clip, settings, appearance=_appearance_of(settings, None))
    choose_learning(model, card["train_clip"])
    return model


def _tuples(held: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in held.items()}
