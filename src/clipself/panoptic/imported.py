"""Released FC-CLIP checkpoints as folders that every command of panoptic segmentation reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from torch import Tensor

from clipself.backbones.export import save_clip
from clipself.backbones.loading import clip_from_state_dict, load_clip
from clipself.backbones.sizes import depth_of
from clipself.backbones.strict import check_fit
from clipself.backbones.weights import read_state_dict, weights_in
from clipself.panoptic.generators.own import build_mask_model, save_own_masks
from clipself.panoptic.settings import OwnMasksSettings
from clipself.text.vocabulary import load_vocabulary

CLIP: Final = "backbone.clip_model."
HEADS: Final = ("sem_seg_head.", "void_embedding.")
ENCODER: Final = "sem_seg_head.pixel_decoder.transformer.encoder.layers."
DECODER: Final = "sem_seg_head.predictor."
IGNORED: Final = ("criterion.", "clip_model.", "pixel_mean", "pixel_std")
"""Released names that say nothing of the model."""


def import_fcclip(
    weights: str | Path,
    out: str | Path,
    *,
    model: str = "RN50-quickgelu",
    names: Sequence[str] | None = None,
    image_size: int = 1024,
) -> Path:
    """Writes a released checkpoint as a folder that `load_own_masks` reads, its CLIP beside it.

    Args:
        weights: The released file.
        out: Folder to write; the CLIP goes into `clip` below it.
        model: open_clip name of the CLIP inside; the releases on OpenAI's ResNets can be read.
        names: Classes of its training; COCO's 133 if not given, as published.
        image_size: Longest side of the input, in pixels.

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


def settings_of(heads: Mapping[str, Tensor], *, source: str, image_size: int) -> OwnMasksSettings:
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
        raise ValueError(f"{source} lacks {missing[0]}; it is no FC-CLIP checkpoint")
    (queries, channels), (pixel_hidden, _), (hidden, _) = (heads[name].shape for name in needed)
    return OwnMasksSettings(
        image_size=image_size,
        channels=channels,
        pixel_layers=depth_of(heads, ENCODER),
        pixel_hidden=pixel_hidden,
        layers=depth_of(heads, f"{DECODER}transformer_ffn_layers."),
        hidden=hidden,
        queries=queries,
        heads=8,
    )
