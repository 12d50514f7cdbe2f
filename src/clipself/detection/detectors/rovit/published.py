"""DITO's released detectors."""

import logging

from torch import Tensor

from clipself.detection.checkpoint import load_learned
from clipself.detection.detectors.rovit.model import LEVELS, RoVit
from clipself.detection.detectors.rovit.published_names import (
    MASKS,
    TEMPERATURE,
    box_names,
    proposal_names,
    pyramid_names,
    read_tree,
    rename,
    vit_names,
)
from clipself.detection.detectors.rovit.settings import RoVitSettings
from clipself.detection.detectors.table import build_detector
from clipself.detection.released import Release

log = logging.getLogger(__name__)


def parts_of(settings: RoVitSettings) -> dict[str, dict[str, str]]:
    """Prefix of ours -> names of that part, ours -> theirs."""
    return {
        "vit.vit.": vit_names(settings.layers),
        "pyramid.": pyramid_names(LEVELS),
        "proposer.head.": proposal_names(settings.rpn_convs, LEVELS),
        "box_head.": box_names(settings.box_convs, settings.box_layers),
    }


def read_published(release: Release) -> RoVit:
    """A parameter tree of DITO's detector, every tensor strictly; see `read_tree`.

    A frozen twin is no part of the tree: it is the transformer that the training began with, which is not in the file,
    so that the trained one stands in for it. Mask heads are left out, their layers are not described anywhere. The CLIP
    lends its texts.

    Raises:
        ValueError: A tensor is missing, left over or of another shape, or the texts are of another width.
    """
    settings, source = release.settings, release.source
    if settings.vit != "plain":
        raise ValueError("released files hold a plain transformer; choose a recipe with vit='plain', ov-coco-dito-l16")
    tree = read_tree(release.weights)
    masks = [name for name in tree if name.startswith(MASKS)]
    if masks:
        log.warning("%s: %d tensors of a mask head are left out, such as %s", source, len(masks), masks[0])
    clip = release.load_clip()
    detector = build_detector(clip, settings, release.speak(clip))
    assert isinstance(detector, RoVit)
    state: dict[str, Tensor] = {}
    known = {TEMPERATURE, *masks}
    for prefix, names in parts_of(settings).items():
        state |= rename(tree, names, prefix=prefix)
        known |= set(names.values())
    state |= {name: tree[name] for name in sorted(set(tree) - known)}  # told as left over
    if TEMPERATURE in tree:
        state["temperature"] = tree[TEMPERATURE].reshape(())
    if settings.twin:
        state |= {
            name.replace("vit.vit.", "vit.twin.", 1): value for name, value in state.items() if name.startswith("vit.")
        }
    load_learned(detector, state, source=source)
    return detector
