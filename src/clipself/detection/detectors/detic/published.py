"""Detic's released OV-LVIS detectors by their names, mapped to ours one by one."""

import re
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.fast_init import unfilled
from clipself.backbones.strict import check_fit
from clipself.backbones.text import make_vocabulary
from clipself.data.detection import ClassSplit
from clipself.detection.detectors.detic.cascade_detector import CenterNetDetector
from clipself.detection.detectors.detic.network import CascadeNetwork
from clipself.detection.detectors.detic.settings import DeticSettings
from clipself.detection.released import Release, rename_released

NAMES: Final[tuple[tuple[str, str], ...]] = (
    *((rf"backbone\.fpn_(lateral|output){level}\.", rf"pyramid.levels.\1.{level - 3}.conv.") for level in (3, 4, 5)),
    (r"backbone\.top_block\.(p6|p7)\.", r"pyramid.\1."),
    (r"backbone\.bottom_up\.base\.", "trunk."),
    (r"backbone\.bottom_up\.", "trunk."),
    (r"proposal_generator\.centernet_head\.", "proposer."),
    (r"roi_heads\.box_head\.(\d)\.", r"cascade.stages.\1."),
    (r"roi_heads\.box_predictor\.(\d)\.cls_score\.linear\.", r"cascade.stages.\1.cls_score.linear."),
    (r"roi_heads\.box_predictor\.(\d)\.bbox_pred\.", r"cascade.stages.\1.bbox_pred."),
    *(
        (rf"roi_heads\.mask_head\.mask_fcn{place + 1}\.", f"cascade.mask_head.convs.{place}.conv.")
        for place in range(8)
    ),
    (r"roi_heads\.mask_head\.deconv\.", "cascade.mask_head.upsample."),
    (r"roi_heads\.mask_head\.predictor\.", "cascade.mask_head.logits."),
)
"""Beginning of a released name -> ours; what follows stays."""

TEXTS: Final = r"roi_heads\.box_predictor\.\d\.cls_score\.zs_weight$"
"""Texts of the classes and the background's zeros, (D, K + 1), in each stage; taken as they are."""

TRAINED: Final = "trained_SKD"
"""Where our detector keeps them."""

CLASSIFIER: Final = "backbone.bottom_up.base.fc."
"""The pre-training's classifier, which released ResNets carry along."""

UNUSED: Final[Mapping[str, str]] = {
    re.escape(CLASSIFIER): "the pre-training's classifier, which no detector asks",
    r"backbone\.bottom_up\..*\.relative_position_index$": "a table that follows from the window",
    r"backbone\.bottom_up\..*\.num_batches_tracked$": "counted batches, which norms that stand still do not ask",
    r"roi_heads\.box_predictor\.\d\.freq_weight$": "counts of images, which come from the data",
}
"""Released names without a place here, and why."""


def to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames what a released checkpoint holds; texts and what has no place here are left out.

    Raises:
        ValueError: A name is not in the table.
    """
    return rename_released(
        state,
        NAMES,
        system="Detic's released OV-LVIS detectors",
        left_out=lambda name: any(re.match(pattern, name) for pattern in (TEXTS, *UNUSED)),
    )


def stored_texts(state: Mapping[str, Tensor], *, source: str) -> Tensor:
    """For each stage the texts of the classes and the background's row (S, K + 1, D) of a released checkpoint.

    Raises:
        ValueError: There are none, or stages that differ in shape.
    """
    held = [state[name] for name in sorted(name for name in state if re.match(TEXTS, name))]
    if not held:
        raise ValueError(f"{source} holds no texts of classes (roi_heads.box_predictor.0.cls_score.zs_weight)")
    if any(one.shape != held[0].shape for one in held):
        raise ValueError(f"the stages of {source} have texts of shapes {sorted({tuple(one.shape) for one in held})}")
    return torch.stack([one.float().mT for one in held])


def fill_network(network: CascadeNetwork, state: Mapping[str, Tensor], *, source: str) -> None:
    """Loads all tensors of a released checkpoint or none; each stage keeps its texts as they are.

    Raises:
        ValueError: Tensors are missing, left over, of another shape or not finite.
    """
    texts_SKD, ours, own = stored_texts(state, source=source), to_our_names(state), network.state_dict()
    if TRAINED in own:  # of a detector, which hands them to its stages itself
        ours[TRAINED] = texts_SKD
    check_fit(ours, own, source=source, advice="use the recipe that the file belongs to: its trunk, masks and stages")
    network.load_state_dict({name: value.to(own[name].dtype) for name, value in ours.items()}, strict=True)
    for classifier, texts_KD in zip(network.cascade.classifiers, texts_SKD, strict=True):
        classifier.take(texts_KD)


def load_published(
    state: Mapping[str, Tensor],
    clip: DenseCLIP,
    settings: DeticSettings,
    classes: ClassSplit,
    *,
    source: str = "the released checkpoint",
) -> CenterNetDetector:
    """Builds a detector from a released checkpoint, every tensor strictly.

    Args:
        state: Tensors by their names.
        clip: Whose text tower speaks other names than those of the file.
        settings: Those of the recipe that the file belongs to.
        classes: Names in the released order: ascending ids.
        source: The file, for messages.

    Returns:
        The detector in evaluation mode, with the file's own texts.

    Raises:
        ValueError: A tensor is missing, left over or of another shape, or the classes are others.
    """
    texts_SKD = stored_texts(state, source=source)
    if texts_SKD.shape[1:] != (len(classes.names) + 1, clip.embed_dim):
        raise ValueError(
            f"{source} knows {texts_SKD.shape[1] - 1} classes by texts of width {texts_SKD.shape[2]}; the recipe names "
            f"{len(classes.names)}, and the CLIP's texts are {clip.embed_dim} wide"
        )
    vocabulary = make_vocabulary(clip, classes.names, base=classes.base, texts_KD=texts_SKD[0])
    with unfilled():
        detector = CenterNetDetector(clip, settings, vocabulary)
    fill_network(detector, state, source=source)
    return detector.to(clip.device).eval()


def read_published(release: Release) -> CenterNetDetector:
    """A released checkpoint, with the CLIP whose text tower made its texts: ViT-B-32 of OpenAI."""
    clip = release.load_clip()
    return load_published(release.read_state(), clip, release.settings, release.classes, source=release.source)
