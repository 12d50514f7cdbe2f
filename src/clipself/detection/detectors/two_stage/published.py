"""The released F-ViT checkpoints (MMDetection 2.28) by their names, mapped to ours one by one."""

from collections.abc import Mapping
from typing import Final

from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.strict import load_strictly
from clipself.backbones.text import make_vocabulary
from clipself.data.detection import ClassSplit
from clipself.detection.checkpoint import load_learned
from clipself.detection.detectors.table import build_detector
from clipself.detection.detectors.two_stage.model import TwoStage
from clipself.detection.detectors.two_stage.settings import TwoStageSettings
from clipself.detection.released import Release, rename_released

HEADS: Final[tuple[tuple[str, str], ...]] = (
    (r"backbone\.interpolate1\.(\d)\.", r"taps.four_times.\1."),
    (r"backbone\.interpolate2\.0\.", "taps.twice."),
    (r"neck\.lateral_convs\.(\d)\.conv\.", r"pyramid.lateral.\1.conv."),
    (r"neck\.lateral_convs\.(\d)\.bn\.", r"pyramid.lateral.\1.norm."),
    (r"neck\.fpn_convs\.(\d)\.conv\.", r"pyramid.output.\1.conv."),
    (r"neck\.fpn_convs\.(\d)\.bn\.", r"pyramid.output.\1.norm."),
    (r"rpn_head\.rpn_conv\.(\d)\.conv\.", r"proposer.head.tower.\1.conv."),
    (r"rpn_head\.rpn_conv\.(\d)\.bn\.", r"proposer.head.tower.\1.norm."),
    (r"rpn_head\.rpn_cls\.", "proposer.head.score."),
    (r"rpn_head\.rpn_reg\.", "proposer.head.deltas."),
    (r"roi_head\.bbox_head\.shared_convs\.(\d)\.conv\.", r"box_head.convs.\1.conv."),
    (r"roi_head\.bbox_head\.shared_convs\.(\d)\.bn\.", r"box_head.convs.\1.norm."),
    (r"roi_head\.bbox_head\.shared_fcs\.(\d)\.", r"box_head.shared.\1."),
    (r"roi_head\.bbox_head\.cls_fcs\.0\.", "box_head.embed."),
    (r"roi_head\.bbox_head\.reg_fcs\.0\.", "box_head.locate."),
    (r"roi_head\.bbox_head\.fc_reg\.", "box_head.deltas."),
    (r"roi_head\.bbox_head\.detect_temperature$", "temperature"),
    (r"roi_head\.bbox_head\.bg_embedding$", "background"),
    (r"roi_head\.mask_head\.convs\.(\d)\.conv\.", r"mask_head.convs.\1.conv."),
    (r"roi_head\.mask_head\.convs\.(\d)\.bn\.", r"mask_head.convs.\1.norm."),
    (r"roi_head\.mask_head\.upsample\.", "mask_head.upsample."),
    (r"roi_head\.mask_head\.conv_logits\.", "mask_head.logits."),
)
"""Beginning of a released name -> ours; what follows (weight, bias, running_mean, ...) stays."""

VISUAL: Final = "backbone.visual."
"""The released files hold the frozen tower as well, under EVA-CLIP's names."""

TEXTS: Final = "roi_head.bbox_head.all_embeddings"
"""Unit text embeddings of the classes and the background, (D, K + 1)."""

UNUSED: Final[Mapping[str, str]] = {
    "roi_head.bbox_head.fc_cls.weight": "made by the parent class of the released head, whose forward pass skips it",
    "roi_head.bbox_head.fc_cls.bias": "as its weight",
}
"""Released names without a place here, and why."""


def to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the heads of a released checkpoint; the tower, the texts and the unused layer are left out.

    Raises:
        ValueError: A name is not in the table.
    """
    renamed = rename_released(
        state,
        HEADS,
        system="the released F-ViT checkpoints",
        left_out=lambda name: name.startswith(VISUAL) or name == TEXTS or name in UNUSED,
    )
    return {name: tensor.flatten() if name == "background" else tensor for name, tensor in renamed.items()}


def load_published(
    state: Mapping[str, Tensor],
    clip: DenseCLIP,
    settings: TwoStageSettings,
    classes: ClassSplit,
    *,
    take_tower: bool = True,
    source: str = "the released checkpoint",
) -> TwoStage:
    """Builds a detector from a released checkpoint, every tensor strictly.

    Args:
        state: Tensors by their names.
        clip: Backbone of the same architecture; its image tower is overwritten by the file's.
        settings: Those of the recipe that the file belongs to.
        classes: Names in the released order: ascending ids.
        take_tower: Whether the file's image tower is taken; else the clip's stays, whatever it is.
        source: The file, for messages.

    Returns:
        The detector in evaluation mode, with the file's own text embeddings.

    Raises:
        ValueError: A tensor is missing, left over or of another shape.
    """
    if take_tower:
        tower = {
            f"visual.{name.removeprefix(VISUAL)}": value for name, value in state.items() if name.startswith(VISUAL)
        }
        load_strictly(clip.clip, tower, source=f"{source} ({VISUAL}*)")
    if TEXTS not in state or state[TEXTS].shape[1] != len(classes.names) + 1:
        raise ValueError(
            f"{source} needs {TEXTS} with {len(classes.names)} classes and the background, has "
            f"{tuple(state[TEXTS].shape) if TEXTS in state else 'none'}; pass the split that it was trained on"
        )
    vocabulary = make_vocabulary(clip, classes.names, base=classes.base, texts_KD=state[TEXTS].float().mT.contiguous())
    detector = build_detector(clip, settings, vocabulary)
    assert isinstance(detector, TwoStage)
    heads = to_our_names(state)
    own = detector.state_dict()
    # RegionPass counters of the batch norms are bookkeeping that some releases of the norm layer do not keep.
    counters = {name: own[name] for name in own if name.endswith("num_batches_tracked") and "backbone" not in name}
    load_learned(detector, {**counters, **heads}, source=source)
    return detector.eval()


def read_published(release: Release) -> TwoStage:
    """A released checkpoint, its image tower beside the text tower that is named."""
    clip = release.load_clip()
    return load_published(release.read_state(), clip, release.settings, release.classes, source=release.source)
