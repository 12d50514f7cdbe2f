"""Detections in the forms that other tools read."""

from typing import Any

from clipself.data.coco.write import result_rows as to_coco
from clipself.structures import Detections
from clipself.structures.other_tools import to_box_pipeline as to_pipeline
from clipself.structures.other_tools import to_supervision

__all__ = ["to_coco", "to_pipeline", "to_records", "to_supervision"]


def to_records(found: Detections) -> list[dict[str, Any]]:
    """Plain values: name, score and box (`xyxy` in pixels) of each, best first."""
    return [
        {"name": one.name, "score": round(one.score, 6), "box": [round(value, 2) for value in one.box]} for one in found
    ]
