"""Detic's released OV-LVIS detectors by their names, mapped to ours one by one."""

import re
from collections.abc import Mapping
from typing import Final

from torch import Tensor

from clipself.backbones.strict import check_fit
from clipself.detection.detectors.detic.network import CascadeNetwork

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
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if any(re.match(pattern, name) for pattern in (TEXTS, *UNUSED)):
            continue
        ours = next((re.sub(rf"^{theirs}", our, name) for theirs, our in NAMES if re.match(theirs, name)), None)
        if ours is None:
            raise ValueError(
                f"{name} {tuple(tensor.shape)} is not a name of Detic's released OV-LVIS detectors; was the file made "
                "by another detector?"
            )
        renamed[ours] = tensor
    return renamed


def stored_rows(state: Mapping[str, Tensor], *, source: str) -> Tensor:
    """Texts of the classes and the background's row (K + 1, D) that a released checkpoint holds in every stage.

    Raises:
        ValueError: There are none, or stages that differ.
    """
    held = [tensor for name, tensor in state.items() if re.match(TEXTS, name)]
    if not held:
        raise ValueError(f"{source} holds no texts of classes (roi_heads.box_predictor.0.cls_score.zs_weight)")
    if any(one.shape != held[0].shape for one in held):
        raise ValueError(f"the stages of {source} have texts of shapes {sorted({tuple(one.shape) for one in held})}")
    return held[0].float().mT.contiguous()


def fill_network(network: CascadeNetwork, state: Mapping[str, Tensor], *, source: str) -> None:
    """Loads all tensors of a released checkpoint or none; each stage keeps its texts as they are.

    Raises:
        ValueError: Tensors are missing, left over, of another shape or not finite.
    """
    ours, own = to_our_names(state), network.state_dict()
    check_fit(ours, own, source=source, advice="use the recipe that the file belongs to: its trunk, masks and stages")
    network.load_state_dict({name: value.to(own[name].dtype) for name, value in ours.items()}, strict=True)
    for stage, classifier in enumerate(network.cascade.classifiers):
        texts_DK = state[f"roi_heads.box_predictor.{stage}.cls_score.zs_weight"]
        classifier.take(texts_DK.float().mT.contiguous())
