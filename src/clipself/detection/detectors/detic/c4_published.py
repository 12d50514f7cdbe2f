"""Detic's released OV-COCO checkpoints, strictly by their names."""

import logging
from collections.abc import Mapping
from typing import Final

from torch import Tensor

from clipself.backbones.text import EmbeddedVocabulary
from clipself.detection.checkpoint import load_learned
from clipself.detection.detectors.detic.c4 import C4Detector
from clipself.detection.released import Release, rename_released

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


def read_c4(release: Release) -> C4Detector:
    """Builds a detector from a released checkpoint, every tensor strictly.

    The CLIP, ViT-B/32 by OpenAI, says the names anew, since nothing but the texts knows of classes; those in the file
    are compared with what it says.

    Returns:
        The detector in evaluation mode.

    Raises:
        ValueError: A tensor is missing, left over or of another shape.
    """
    clip, state = release.load_clip(), release.read_state()
    vocabulary = release.speak(clip)
    detector = C4Detector(clip, release.settings, vocabulary).to(clip.device)
    load_learned(detector, to_our_names(state), source=release.source)
    _compare_texts(state, vocabulary, source=release.source)
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
