"""The released CORA files by their names: detectors, region branches, prompts."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.loading import clip_from_state_dict
from clipself.backbones.strict import check_fit
from clipself.backbones.text import make_vocabulary
from clipself.data.detection import ClassSplit
from clipself.detection.detectors.cora.model import Cora
from clipself.detection.detectors.cora.settings import CoraSettings
from clipself.detection.released import Release

TOWER: Final[Mapping[str, str]] = {
    "backbone.0.attnpool.": "visual.attnpool.",
    "backbone.0.attn_pool.": "visual.attnpool.",
    "backbone.0.layer4.": "visual.layer4.",
    "backbone.0.body.": "visual.",
    "classifier.": "",
}
"""Beginning of a released name of the CLIP -> open_clip's. Its table of positions is the region prompt already."""

TWINS: Final[Mapping[str, str]] = {
    "transformer.decoder.bbox_embed.": "bbox_embed.",
    "transformer.stage1_box_embed.": "stage1_box_embed.",
    "transformer.stage1_obj_embed.": "stage1_obj_embed.",
    "backbone.attn_pool.": "backbone.0.attnpool.",
    "backbone.layer4.": "backbone.0.layer4.",
}
"""Names under which the released files hold a tensor once more -> the name that is read.

Detectors hold the last stage as `backbone.0.layer4` and `backbone.0.body.layer4`; region branches as the first alone.
"""

AVERAGED: Final = "model_ema"
"""Entry of a released file that its numbers were made with."""


def without_twins(state: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """A released state dict with every tensor once.

    Raises:
        ValueError: Two names of one tensor hold different numbers.
    """
    last, body = "backbone.0.layer4.", "backbone.0.body.layer4."
    twins = {**TWINS, last: body} if any(name.startswith(body) for name in state) else TWINS
    kept = {}
    for name, tensor in state.items():
        start = next((twin for twin in twins if name.startswith(twin)), None)
        if start is None:
            kept[name] = tensor
            continue
        other = state.get(twins[start] + name.removeprefix(start))
        if other is None or not torch.equal(other, tensor):
            raise ValueError(
                f"{source}: {name} and {twins[start]}{name.removeprefix(start)} are one tensor in the released files, "
                "but not here; was the file put together from two?"
            )
    return kept


def clip_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The CLIP within a released state dict by open_clip's names.

    The released norms are frozen and keep no count of batches.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        start = next((theirs for theirs in TOWER if name.startswith(theirs)), None)
        if start is not None:
            ours = TOWER[start] + name.removeprefix(start)
            renamed[ours] = tensor
            if ours.endswith(".running_mean"):
                renamed[ours.replace(".running_mean", ".num_batches_tracked")] = torch.tensor(0)
    return renamed


def localiser_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All else within a released state dict: the localiser, whose names here are the released ones."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(tuple(TOWER))}


def read_clip(state: Mapping[str, Tensor], model: str, *, source: str) -> DenseCLIP:
    """The CLIP of a released file, strictly; half precision becomes float32.

    Args:
        state: Without twins.
        model: open_clip name of its architecture.
        source: Where it comes from, for messages.

    Raises:
        ValueError: Tensors are missing, left over or of another shape.
    """
    return clip_from_state_dict(model, clip_state(state), source=source, quick_gelu=True)


def read_detector(
    state: Mapping[str, Tensor], *, model: str, settings: CoraSettings, classes: ClassSplit, source: str
) -> Cora:
    """A released detector, every tensor strictly; its names are embedded by its own text tower.

    Args:
        state: Tensors by the released names.
        model: open_clip name of the CLIP's architecture.
        settings: Those of the recipe that it belongs to.
        classes: Names that it was trained with and those held out.
        source: Where it comes from, for messages.

    Raises:
        ValueError: Tensors are missing, left over or of another shape.
    """
    once = without_twins(state, source=source)
    clip = read_clip(once, model, source=source)
    vocabulary = make_vocabulary(clip, classes.names, base=classes.base, **settings.spoken)
    detector = Cora(clip, settings, vocabulary)
    own, held = detector.localiser.state_dict(), localiser_state(once)
    check_fit(held, own, source=source, advice="use the settings that it was trained with")
    detector.localiser.load_state_dict(held, strict=True)
    return detector.eval()


def read_published(release: Release) -> Cora:
    """A released detector on the CLIP of its file, text tower and region prompt included.

    The averaged weights are taken, by which it was judged.
    """
    state = release.read_state(prefer=AVERAGED)
    return read_detector(
        state, model=release.model, settings=release.settings, classes=release.classes, source=release.source
    )
