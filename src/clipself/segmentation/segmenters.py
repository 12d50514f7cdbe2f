"""The segmenters that learn, by name; none knows of another. A new one is a file or folder, and a line here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from clipself.choices import later, pick
from clipself.engine.fields import build
from clipself.segmentation.catseg.settings import CatSegSettings
from clipself.segmentation.san.settings import SanSettings
from clipself.segmentation.settings import SegmenterSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clipself.backbones.dense_clip import DenseCLIP
    from clipself.engine.step import Step
    from clipself.segmentation.segmenter import Inference, Segmenter, SegmenterModel
    from clipself.structures import SemanticBatch


class SegmentationLoss(Protocol):
    """How a segmenter learns from a batch of labelled crops."""

    def counts(self, batch: "SemanticBatch") -> "Mapping[str, Tensor | float]":
        """What the loss averages over; sums of it over a step come back as `step.totals`."""

    def losses(self, model: "nn.Module", batch: "SemanticBatch", step: "Step") -> "Mapping[str, Tensor]":
        """Named terms: this batch's share of the step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmenterType:
    """One row of the table.

    Attributes:
        settings: Class of its settings.
        build: (clip, settings, crop=side of training crops) -> a new model, of which only what learns requires
            gradients and whose `settings` are complete.
        loss: (model, names, ignore_label=) -> its loss.
        groups: (model, weight_decay=) -> AdamW's groups.
        segmenter: (model, names, crop=, how=Inference) -> the model at work.
        read: (tensors by published names, source=, heads=) -> the model of a released checkpoint, where there is one.
        crop: Side of the published training crops, in pixels.
    """

    settings: type[SegmenterSettings]
    build: "Callable[..., SegmenterModel]"
    loss: Callable[..., SegmentationLoss]
    groups: Callable[..., list[dict[str, Any]]]
    segmenter: "Callable[..., Segmenter]"
    read: "Callable[..., SegmenterModel] | None" = None
    crop: int = 640


_later: Final = partial(later, "clipself.segmentation")


SEGMENTERS: Final[Mapping[str, SegmenterType]] = {
    "catseg": SegmenterType(
        settings=CatSegSettings,
        build=_later("catseg.model", "build_catseg"),
        loss=_later("catseg.loss", "CatSegLoss"),
        groups=_later("catseg.model", "catseg_groups"),
        segmenter=_later("catseg.segmenter", "catseg_segmenter"),
        read=_later("catseg.published", "read_catseg"),
        crop=384,
    ),
    "san": SegmenterType(
        settings=SanSettings,
        build=_later("san.model", "build_san"),
        loss=_later("san.loss", "SanLoss"),
        groups=_later("san.model", "san_groups"),
        segmenter=_later("san.segmenter", "san_segmenter"),
        read=_later("san.published", "read_san"),
    ),
}
"""`SegmenterSettings.method` -> how it is built, learns and is used."""


def make_settings(method: str = "catseg", /, **values: Any) -> SegmenterSettings:
    """Settings of a segmenter by its name; what `SegmenterSettings.to_json` gave is read back.

    Args:
        method: Row of `SEGMENTERS`.
        values: Settings that differ from its defaults.

    Raises:
        ValueError: There is no such segmenter or no such setting.
    """
    row = pick(SEGMENTERS, values.pop("method", method), what="segmenter")
    settings: SegmenterSettings = build(row.settings, values, name="segmenter")
    return settings


SegmenterSettings.make = make_settings


def type_of(settings: SegmenterSettings) -> SegmenterType:
    """The row of some settings.

    Raises:
        ValueError: There is no such segmenter.
    """
    return pick(SEGMENTERS, settings.method, what="segmenter")


def build_model(
    settings: SegmenterSettings, clip: "DenseCLIP", *, crop: int | None = None, seed: int = 0
) -> "SegmenterModel":
    """A model with new weights on a CLIP.

    Args:
        settings: What is None follows from the CLIP.
        clip: The model takes it over.
        crop: Side of the training crops, in pixels; the published one if not given.
        seed: Of the new weights.

    Raises:
        ValueError: The settings do not fit the CLIP.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        row = type_of(settings)
        return row.build(clip, settings, crop=crop or row.crop)


def segmenter_of(
    model: "SegmenterModel", names: Sequence[str], *, crop: int, how: "Inference | None" = None, **looks: Any
) -> "Segmenter":
    """A trained model with a vocabulary.

    Args:
        model: Put into evaluation mode.
        names: Class names; synonyms follow after commas.
        crop: Side of the training crops, in pixels.
        how: How it looks at pictures; as published if not given.
        looks: Or fields of `Inference`.
    """
    from clipself.segmentation.segmenter import Inference

    return type_of(model.settings).segmenter(model, names, crop=crop, how=how or Inference(**looks))
