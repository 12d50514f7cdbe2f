"""Detic's released OV-COCO checkpoints, strictly by their names."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.loading import load_clip
from clipself.backbones.text import EmbeddedVocabulary, make_vocabulary
from clipself.backbones.weights import read_state_dict, weights_in
from clipself.data.detection import ClassSplit
from clipself.detection.checkpoint import load_learned, rename_released, save_detector
from clipself.detection.detectors.detic.c4 import C4Detector
from clipself.detection.detectors.detic.settings import DeticSettings

log = logging.getLogger(__name__)

RELEASED: Final[tuple[tuple[str, str], ...]] = (
    (r"backbone\.", "trunk."),
    (r"proposal_generator\.rpn_head\.conv\.", "proposer.head.tower.0.conv."),
    (r"proposal_generator\.rpn_head\.objectness_logits\.", "proposer.head.score."),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.", "proposer.head.deltas."),
    (r"roi_heads\.res5\.", "res5."),
    (r"roi_heads\.box_predictor\.cls_score\.linear\.", "classifier.linear."),
    (r"roi_heads\.box_predictor\.cls_score\.cls_bias$", "classifier.bias"),
    (r"roi_heads\.box_predictor\.bbox_pred\.", "deltas."),
)
"""Beginning of a released name -> ours; what follows stays."""

TEXTS: Final = "roi_heads.box_predictor.cls_score.zs_weight"
"""Unit texts of the classes and a column of zeros, (D, K + 1)."""
IMAGES: Final = "roi_heads.box_predictor.freq_weight"
"""How many images of each class training had, to some power (K,)."""
ALIKE: Final = 0.9
"""Cosine from which two texts say the same."""
TEXT_TOWER: Final = "text_encoder."
"""The frozen CLIP text tower of models that learned from captions."""


def to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames what a released C4 checkpoint holds; texts, counts and a text tower are left out.

    Raises:
        ValueError: A name is not in the table.
    """
    return rename_released(
        state,
        RELEASED,
        system="Detic's released OV-COCO detectors",
        left_out=lambda name: name in (TEXTS, IMAGES) or name.startswith(TEXT_TOWER),
    )


def load_c4(
    source: str | Path | Mapping[str, Tensor], clip: DenseCLIP, settings: DeticSettings, classes: ClassSplit
) -> C4Detector:
    """Builds a detector from a released checkpoint, every tensor strictly.

    The CLIP says the names anew, since nothing but the texts knows of classes; those in the file are compared with
    what it says.

    Args:
        source: The file, or its tensors.
        clip: Whose text tower speaks: that of ViT-B/32 by OpenAI.
        settings: Those of the recipe that the file belongs to.
        classes: Names that it was trained with.

    Returns:
        The detector in evaluation mode.

    Raises:
        ValueError: A tensor is missing, left over or of another shape.
    """
    state = dict(source) if isinstance(source, Mapping) else read_state_dict(source)
    where = "the released checkpoint" if isinstance(source, Mapping) else str(source)
    vocabulary = make_vocabulary(clip, classes.names, base=classes.base, **settings.spoken)
    detector = C4Detector(clip, settings, vocabulary).to(clip.device)
    load_learned(detector, to_our_names(state), source=where)
    _compare_texts(state, vocabulary, source=where)
    return detector.eval()


def _compare_texts(state: Mapping[str, Tensor], vocabulary: EmbeddedVocabulary, *, source: str) -> None:
    """Warns of classes for which the file holds no text like the CLIP's: another text tower made them."""
    if TEXTS not in state:
        return
    rows_KD = state[TEXTS].float().mT
    said_KD = vocabulary.texts_KD[:-1].cpu()
    if rows_KD.shape[1] != said_KD.shape[1]:
        raise ValueError(
            f"{source} compares with texts of width {rows_KD.shape[1]}, this CLIP's are {said_KD.shape[1]} wide; pass "
            "the CLIP that it was trained with, ViT-B-32 of OpenAI"
        )
    nearest = (said_KD @ rows_KD.mT).amax(1)
    strange = [name for name, cosine in zip(vocabulary.names, nearest.tolist(), strict=True) if cosine < ALIKE]
    if strange:
        log.warning(
            "%s holds no text like this CLIP's of %d classes, such as %s; was it trained with another text tower?",
            source, len(strange), strange[0],
        )  # fmt: skip


def import_c4(
    weights: str | Path,
    out: str | Path,
    *,
    model: str,
    pretrained: str | None,
    settings: DeticSettings,
    classes: ClassSplit,
    text_from: str | None = None,
) -> Path:
    """Writes a released OV-COCO checkpoint as a folder that `Detector.from_checkpoint` reads.

    Args:
        weights: The released file.
        out: Folder to write.
        model: open_clip name of the CLIP whose text tower speaks.
        pretrained: Its tag or file.
        settings: Those of the recipe that the file belongs to.
        classes: Names that it was trained with.
        text_from: Release of the text tower, where `pretrained` holds none.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file does not fit, or there is no text tower.
    """
    weights = weights_in(weights)  # a missing file is told ahead of a download
    clip = load_clip(model, pretrained, text_from=text_from)
    detector = load_c4(weights, clip, settings, classes)
    return save_detector(
        detector, out, model=model, pretrained=pretrained, text_from=text_from, card={"from": Path(weights).name}
    )
