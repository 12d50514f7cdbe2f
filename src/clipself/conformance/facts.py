"""What a manifest may tell without being looked at: sizes that its arrays have too, seeds, names, words."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

from numpy.typing import NDArray

ANYWHERE: Final = (
    "*note", "*notes", "*meaning", "*about", "*source", "*seed", "*stem", "*yaml", "*name", "*names", "*flags",
    "*real", "*real.*", "*real_sizes", "*real_sizes.*", "*classes", "*.H", "*.W", "*.size", "*sizes", "*sizes.*",
    "*.valid", "*.valid.*", "*.counts", "*.padded", "*.strides", "*.image", "*.grid", "*.width", "*.batch", "*_dim",
    "*.dim", "*geometry", "*variant", "*dataset", "*margin*", "measured*", "*difference*", "*smallest*", "*largest*",
    "hardware", "device", "platform", "threads", "date", "script", "generator", "license", "url", "commit",
    "repository", "python", "numpy", "scipy", "jax", "flax", "torchvision", "transformers", "diffusers", "detectron2",
)  # fmt: skip
"""Names that are none of a constant, whatever the manifest is about."""

FACTS: Final[Mapping[str, tuple[str, ...]]] = {
    "CAT-Seg aggregator": ("version", "config.feature_resolution"),
    "CAT-Seg dense CLIP visual": ("config.input_resolution", "config.test_resolution"),
    "CFM-ViT pretraining": ("config.mask_ratio", "config.position_drop_probability", "config.variants.*"),
    "CORA": ("config.geometry", "config.box_head_layers"),
    "CORA class-aware matching and localiser losses": (
        "config.ignored_score_threshold", "config.split_class", "config.targets_per_image",
    ),
    "CORA detector": ("config.geometry", "config.box_head_layers"),
    "CORA localiser": ("config.geometry", "config.split"),
    "CORA region prompting": ("config.geometry", "config.templates", "config.roi_size"),
    "detection cases": ("box_deltas.*.expected_boxes_clamp_above_only", "lvis_ap.*.novel_ids"),
    "Detic box-head losses": (
        "config.fed_loss_*", "config.norm_temperature", "config.neg_cap_weight", "config.caption_weight",
        "config.smooth_l1_beta", "config.reg_weights", "config.image_loss_weight",
    ),
    "Detic data and schedule numbers": ("config.dataset_ratio", "config.repeat_threshold"),
    "Detic OV-COCO": (
        "config.neg_cap_weight", "config.weak_proposals", "config.image_box_size", "config.image_loss_weight",
    ),
    "dense model": ("patch",),
    "Detic OV-LVIS": ("config.fed_loss_num_cat",),
    "Detic zero-shot classifier": ("config.in", "config.use_bias"),
    "OV-DETR matcher": ("config.conditions",),
    "mask-classification matcher and losses": ("weights*",),
    "ODISE diffusion backbone": ("config.clip.context",),
    "OV-DETR training step": ("config.max_len", "config.prob"),
    "OWL-ViT labels": ("forbidden.words_in_the_two_lists",),
    "OWL-ViT training loss": tuple(f"config.cases.*.{name}" for name in ("B", "N", "M", "Q", "used")),
    "PromptOVD": ("config.heads",),
    "RO-ViT / DITO scores and losses": ("config.anchor_side_over_stride",),
    "SAN": ("config.clip.*",),
    "segmentation metrics": ("miou.absent_in_gt",),
    "training-free dense CLIP readouts": ("config.gaussian_std", "config.proxy_*"),
}  # fmt: skip
"""First words of a system -> what its manifests tell that the arrays show too, that led to what is stored, or that
some arrays alone depend on."""


def unknown_constants(stem: str, unread: Mapping[str, Any], sizes: Iterable[int]) -> list[str]:
    """Names of the constants that nobody looked at and that may count.

    Args:
        stem: First words of the system.
        unread: Dotted name -> value of all that nobody looked at.
        sizes: Lengths of the axes of all arrays and parameters; a whole number that is one of them repeats it.
    """
    known, lengths = (*ANYWHERE, *FACTS.get(stem, ())), set(sizes)
    return [
        name
        for name, value in unread.items()
        if not any(fnmatchcase(name, pattern) for pattern in known) and not _repeats(value, lengths)
    ]


def _repeats(value: Any, lengths: set[int]) -> bool:
    """Whether a value is nothing, or lengths of axes."""
    if isinstance(value, (list, tuple)):
        return all(_repeats(one, lengths) for one in value)
    if isinstance(value, bool) or value is None:
        return not value
    return isinstance(value, int) and value in lengths


def axis_lengths(manifest: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> set[int]:
    """Lengths of the axes of all arrays and parameters."""
    rows = manifest.get("params", manifest.get("parameters", ()))
    shapes = [row["shape"] for row in rows if isinstance(row, Mapping) and "shape" in row]
    return {int(length) for shape in [*shapes, *(array.shape for array in arrays.values())] for length in shape}
