"""Settings of OV-DETR; free of heavy imports so that `--help` is quick."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from clipself.detection.detectors.deformable.settings import DeformableSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class OvDetrSettings(DeformableSettings):
    """Queries that are asked for one class at a time, by its text or by a picture of it."""

    method: str = field(default="ovdetr", init=False)
    conditions: Literal["image", "step"] = "image"
    """What the classes that are asked for in training are drawn for: each image by itself, or all images of a step
    together, as published for the images of one GPU."""
    most_conditions: int = 15
    """Classes that are asked for at once in training; those of further boxes wait."""
    least_conditions: int = 12
    """Fewer are filled up with base classes that are not there."""
    text_share: float = 0.5
    """Probability that a class is asked for by its text, and not by a crop of it."""
    least_crop: int = 16
    """Boxes with a shorter side, in pixels, give no crops."""
    crops_of_class: int | None = None
    """First boxes of each class whose crops are embedded ahead of training; all if not given."""
    weight_embedding: float = 2.0
    """Of the distance between a matched query's embedding and the row that it was asked by."""
    classes_at_once: int | None = 15
    """Classes that the decoder is asked for at once at test; all if not given. It changes memory, not results."""

    @property
    def spoken(self) -> Mapping[str, Any]:
        """As of all, but that pictures stay as CLIP sees them: the network knows them from texts."""
        return {"templates": self.templates, "centred": False}

    @property
    def clip_part(self) -> Literal["image", "text", "all"]:
        """Texts and crops."""
        return "all"

    def check(self) -> None:
        """Refuses what no such detector can have.

        Raises:
            ValueError: A setting is outside its range.
        """
        self.check_counts("most_conditions", "least_conditions", "crops_of_class", "classes_at_once")
        self.check_not_negative("least_crop", "weight_embedding")
        self.check_shares("text_share")
