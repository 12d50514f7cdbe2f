"""Checkpoints of the released OV-DETR, by its names."""

import re
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from clipself.backbones.strict import check_fit
from clipself.detection.detectors.ovdetr.model import OvDetrDetector
from clipself.detection.detectors.table import build_detector
from clipself.detection.detectors.trunks import ResNet50
from clipself.detection.released import Release

TRUNK: Final = "backbone.0.body."
ALIAS: Final = re.compile(r"^transformer\.decoder\.(?=(?:bbox|class)_embed\.)")
"""Heads that the published decoder holds a second time."""
SHARED: Final = re.compile(r"^(class_embed|bbox_embed|feature_align)\.[1-9]\d*\.")
"""Heads of later layers, which are those of the first where boxes are not refined."""

DETECTOR: Final = "detr."
"""Ahead of the detector's names in a checkpoint with masks."""
MASKS: Final = ("bbox_attention.", "mask_head.")


def split_published(
    state: Mapping[str, Tensor], *, refine: bool = True, source: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors by published names -> those of `OvDetr`, and those of its trunk, each by their own names.

    Args:
        state: All tensors of the checkpoint.
        refine: Whether each layer has heads of its own.
        source: Where they come from, for messages.

    Raises:
        ValueError: What is held twice differs.
    """
    network: dict[str, Tensor] = {}
    trunk: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.startswith(TRUNK):
            trunk[name.removeprefix(TRUNK)] = value
            continue
        own = ALIAS.sub("", name)
        if not refine:
            own = SHARED.sub(r"\1.0.", own)
        if own in network and not torch.equal(network[own], value):
            raise ValueError(
                f"{source}: {name} should be {own} once more and differs from it; the file is not what the released "
                "code writes"
            )
        network[own] = value
    return network, trunk


def without_masks(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint of the second stage, a mask head on a frozen detector -> its detector; others as they are.

    The released mask head cannot be run as it was published; boxes do not depend on it.
    """
    inside = {name.removeprefix(DETECTOR): value for name, value in state.items() if name.startswith(DETECTOR)}
    spare = [name for name in state if not name.startswith((DETECTOR, *MASKS))]
    return dict(state) if not inside or spare else inside


def load_released(detector: OvDetrDetector, state: Mapping[str, Tensor], *, source: str) -> None:
    """Loads a released checkpoint, every tensor strictly.

    Raises:
        ValueError: A tensor is missing, left over or of another shape, or the detector's trunk is not a ResNet-50.
    """
    trunk = detector.trunk
    if not isinstance(trunk, ResNet50):
        raise ValueError(f"{source} holds a ResNet-50; the detector's trunk is {detector.settings.trunk!r}")
    network, body = split_published(without_masks(state), refine=detector.settings.refine, source=source)
    advice = "use the settings that it was trained with, of the recipe ov-coco-ovdetr if it is the released file"
    check_fit(network, detector.network.state_dict(), source=source, advice=advice)
    trunk.take(body, source=source)
    detector.network.load_state_dict(network, strict=True)


def read_published(release: Release) -> OvDetrDetector:
    """A released checkpoint, which holds no embeddings of names: the CLIP that it was trained with makes them."""
    clip = release.load_clip()
    detector = build_detector(clip, release.settings, release.speak(clip))
    assert isinstance(detector, OvDetrDetector)
    load_released(detector, release.read_state(), source=release.source)
    return detector
