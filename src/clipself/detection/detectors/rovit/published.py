"""DITO's released detectors as folders of ours."""

import logging
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from clipself.backbones.export import save_clip
from clipself.backbones.loading import load_clip
from clipself.backbones.text import make_vocabulary
from clipself.data.detection import ClassSplit
from clipself.detection.checkpoint import load_learned, save_detector
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

log = logging.getLogger(__name__)

ADVICE: Final = "use the settings that it was trained with: width, layers, heads, patch, table, channels, convolutions"


def parts_of(settings: RoVitSettings) -> dict[str, dict[str, str]]:
    """Prefix of ours -> names of that part, ours -> theirs."""
    return {
        "vit.vit.": vit_names(settings.layers),
        "pyramid.": pyramid_names(LEVELS),
        "proposer.head.": proposal_names(settings.rpn_convs, LEVELS),
        "box_head.": box_names(settings.box_convs, settings.box_layers),
    }


def import_published(
    weights: str | Path,
    out: str | Path,
    *,
    model: str,
    pretrained: str | None,
    settings: Any,
    classes: ClassSplit,
    text_from: str | None = None,
) -> Path:
    """Writes a parameter tree of DITO's detector as a folder, every tensor strictly.

    A frozen twin is no part of the tree: it is the transformer that the training began with, which is not in the file,
    so that the trained one stands in for it. Mask heads are left out, their layers are not described anywhere.

    Args:
        weights: See `read_tree`.
        out: Folder to write.
        model: CLIP that lends its texts.
        pretrained: Its tag or file.
        settings: Those of the recipe that the file belongs to.
        classes: Names that it was trained with.
        text_from: Release of the text tower, where `pretrained` holds none.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A tensor is missing, left over or of another shape, or the texts are of another width.
    """
    if settings.vit != "plain":
        raise ValueError("released files hold a plain transformer; choose a recipe with vit='plain', ov-coco-dito-l16")
    tree = read_tree(Path(weights))
    masks = [name for name in tree if name.startswith(MASKS)]
    if masks:
        log.warning("%s: %d tensors of a mask head are left out, such as %s", weights, len(masks), masks[0])
    clip = load_clip(model, pretrained, text_from=text_from)
    vocabulary = make_vocabulary(clip, classes.names, base=classes.base, templates=settings.templates)
    detector = build_detector(clip, settings, vocabulary)
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
    load_learned(detector, state, source=str(weights))
    folder = save_clip(clip, Path(out) / "backbone", card={"from": model})
    return save_detector(detector, out, model=str(folder), card={"from": str(weights)})
