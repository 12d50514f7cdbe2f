"""Released FC-CLIP and ODISE checkpoints as folders that every command of panoptic segmentation reads."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from clipself.backbones.export import save_clip
from clipself.backbones.loading import clip_from_state_dict, load_clip
from clipself.backbones.sizes import depth_of
from clipself.backbones.strict import check_fit
from clipself.backbones.weights import read_state_dict, weights_in
from clipself.panoptic.generators.features import open_features
from clipself.panoptic.generators.own import build_mask_model, save_own_masks
from clipself.panoptic.settings import FCCLIP_SIDES, DiffusionSettings, OdiseSettings, OwnMasksSettings
from clipself.text.vocabulary import load_vocabulary

CLIP: Final = "backbone.clip_model."
BACKBONE: Final = "backbone."
HEADS: Final = ("sem_seg_head.", "void_embedding.")
ODISE_HEADS: Final = ("sem_seg_head.", "category_head.", "word_head.")
ENCODER: Final = "sem_seg_head.pixel_decoder.transformer.encoder.layers."
DECODER: Final = "sem_seg_head.predictor."
PROJECTION: Final = "backbone.feature_projections.0.0.conv3.weight"
PUBLISHED_CLIP: Final = ("ViT-L-14-336", "openai")
"""ODISE's: it captions and names pictures."""
IGNORED: Final = ("criterion.", "clip_model.", "pixel_mean", "pixel_std")
"""Released names that say nothing of the model."""
ODISE_FROZEN: Final = (
    *IGNORED, "backbone.feature_extractor.ldm_extractor.", "backbone.feature_extractor.clip.", "category_head.clip.",
    "word_head.clip.", "clip_head.",
)  # fmt: skip
"""Frozen parts that a file may carry along: they come from the diffusion model and the CLIP that are named."""


def import_fcclip(
    weights: str | Path,
    out: str | Path,
    *,
    model: str = "RN50-quickgelu",
    names: Sequence[str] | None = None,
    image_size: int | None = None,
) -> Path:
    """Writes a released checkpoint as a folder that `load_own_masks` reads, its CLIP beside it.

    Args:
        weights: The released file.
        out: Folder to write; the CLIP goes into `clip` below it.
        model: open_clip name of the CLIP inside; the releases on OpenAI's ResNets can be read.
        names: Classes of its training; COCO's 133 if not given, as published.
        image_size: Longest side of the input, in pixels; as published, a shortest of 800 and a longest of at most 1333,
            if not given.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is none of FC-CLIP's, or its CLIP is of a family without a dense readout.
    """
    state = read_state_dict(weights_in(weights))
    tower = {name.removeprefix(CLIP): tensor for name, tensor in state.items() if name.startswith(CLIP)}
    heads = {name: tensor for name, tensor in state.items() if name.startswith(HEADS)}
    strange = [name for name in state if not name.startswith((CLIP, *HEADS, *IGNORED))]
    if not tower or not heads or strange:
        raise ValueError(
            f"{weights} is no FC-CLIP checkpoint: it holds {len(tower)} tensors of a CLIP, {len(heads)} of heads and "
            f"{len(strange)} others, such as {strange[:3]}"
        )
    settings = settings_of(heads, source=str(weights), image_size=image_size)
    folder = save_clip(
        clip_from_state_dict(model, tower, source=str(weights)), Path(out) / "clip", card={"from": Path(weights).name}
    )
    clip = load_clip(folder)
    built = build_mask_model(settings, clip)
    renamed = {f"heads.{name}": tensor for name, tensor in heads.items()}
    check_fit(renamed, built.state_dict(), source=str(weights), advice="choose the CLIP inside by its name")
    built.load_state_dict(renamed, strict=True)
    return save_own_masks(
        out, built.eval(), settings, clip=clip, clip_source={"model": str(folder)},
        trained_names=list(names or load_vocabulary("coco_panoptic_133").names), card={"from": Path(weights).name},
    )  # fmt: skip


def import_odise(
    weights: str | Path,
    out: str | Path,
    *,
    model: str | None = None,
    pretrained: str | None = None,
    diffusion: str = "CompVis/stable-diffusion-v1-3",
    names: Sequence[str] | None = None,
    image_size: int = 1024,
) -> Path:
    """Writes a released checkpoint as a folder that `load_own_masks` reads; its frozen parts are named there.

    Args:
        weights: The released file, of the label model or of the caption model.
        out: Folder to write.
        model: The CLIP that captions and names pictures: open_clip name or export folder; OpenAI's L/14 at 336 px, as
            published, if not given.
        pretrained: Tag or file of its weights.
        diffusion: The diffusion model in diffusers' layout, hub name or folder; Stable Diffusion 1.3 as published.
        names: Classes of its training; COCO's 133 if not given, as published.
        image_size: Shortest side of the input in predictions, in pixels.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: diffusers is not installed.
        ValueError: The file is none of ODISE's, or it stands on another diffusion model or CLIP.
    """
    state = {
        name: tensor
        for name, tensor in read_state_dict(weights_in(weights)).items()
        if not name.startswith(ODISE_FROZEN)
    }
    settings = odise_settings_of(state, source=str(weights), diffusion=diffusion, image_size=image_size)
    model, pretrained = PUBLISHED_CLIP if model is None else (model, pretrained)
    clip = load_clip(model, pretrained)
    features = open_features(settings, clip)
    built = build_mask_model(settings, clip, features=features)
    load_odise(built, state, source=str(weights))
    return save_own_masks(
        out, built.eval(), settings, clip=clip, clip_source={"model": model, "pretrained": pretrained},
        features_digest=features.digest,
        trained_names=list(names or load_vocabulary("coco_panoptic_133").names), card={"from": Path(weights).name},
    )  # fmt: skip


def load_odise(model: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Loads everything that a released checkpoint learnt, or nothing.

    Args:
        model: A `MaskModel` on a diffusion model.
        state: Tensors by the released names, without frozen parts.
        source: Where they come from, for messages.

    Raises:
        ValueError: Tensors are missing, left over, of another shape or not finite.
    """
    renamed = {
        f"pyramid.{name}" if name.startswith(BACKBONE) else f"heads.{name}": tensor for name, tensor in state.items()
    }
    check_fit(
        renamed,
        model.state_dict(),
        source=source,
        advice="name the diffusion model and the CLIP that it was trained on",
    )
    model.load_state_dict(renamed, strict=True)


def odise_settings_of(
    state: Mapping[str, Tensor], *, source: str, diffusion: str, image_size: int = 1024
) -> OdiseSettings:
    """The sizes of a released ODISE as its tensors show them; attention has 8 heads, as in every release.

    Args:
        state: Tensors by the released names.
        source: Where they come from, for messages.
        diffusion: The diffusion model, hub name or folder.
        image_size: Shortest side of the input in predictions, in pixels.

    Raises:
        ValueError: The file is none of ODISE's: a tensor that shows a size is missing, or others are there.
    """
    strange = [name for name in state if not name.startswith((BACKBONE, *ODISE_HEADS))]
    heads = [name for name in ODISE_HEADS[1:] if f"{name}text_proj.weight" in state]
    if PROJECTION not in state or len(heads) != 1 or strange:
        raise ValueError(
            f"{source} is no ODISE checkpoint: it has {len(state)} tensors, {'a' if PROJECTION in state else 'no'} "
            f"projection of taps, {len(heads)} heads of names (expected one) and {len(strange)} others, such as "
            f"{strange[:3]}"
        )
    return OdiseSettings(
        features=f"diffusion:{diffusion}",
        diffusion=DiffusionSettings(projection=len(state[PROJECTION])),
        supervision="label" if heads == ["category_head."] else "caption",
        image_size=image_size,
        shortest=image_size,
        **sizes_of(state, source=source, system="ODISE"),
    )


def settings_of(heads: Mapping[str, Tensor], *, source: str, image_size: int | None) -> OwnMasksSettings:
    """The sizes of a released FC-CLIP as its tensors show them; those of its input are given, or the published ones.

    Raises:
        ValueError: A tensor that shows a size is missing.
    """
    seen = FCCLIP_SIDES if image_size is None else {"image_size": image_size}
    return OwnMasksSettings(**seen, **sizes_of(heads, source=source, system="FC-CLIP"))


def sizes_of(heads: Mapping[str, Tensor], *, source: str, system: str) -> dict[str, Any]:
    """The decoders' sizes as their tensors show them; attention has 8 heads, as in every release.

    Raises:
        ValueError: A tensor that shows a size is missing.
    """
    needed = (
        f"{DECODER}query_feat.weight",
        f"{ENCODER}0.linear1.weight",
        f"{DECODER}transformer_ffn_layers.0.linear1.weight",
    )
    missing = [name for name in needed if name not in heads or heads[name].ndim != 2]
    if missing:
        raise ValueError(f"{source} lacks {missing[0]}; it is no {system} checkpoint")
    (queries, channels), (pixel_hidden, _), (hidden, _) = (heads[name].shape for name in needed)
    return {
        "channels": channels,
        "pixel_layers": depth_of(heads, ENCODER),
        "pixel_hidden": pixel_hidden,
        "layers": depth_of(heads, f"{DECODER}transformer_ffn_layers."),
        "hidden": hidden,
        "queries": queries,
        "heads": 8,
    }


IMPORTS: Final[Mapping[str, Callable[..., Path]]] = {"fcclip": import_fcclip, "odise": import_odise}
"""System -> how its released checkpoints become folders (`panoptic import --as`)."""
