"""The table of formats that labels are written in."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from clipself.data.labels.coco import write_coco
from clipself.data.labels.cvat import write_cvat
from clipself.data.labels.label_studio import write_label_studio
from clipself.data.labels.labelme import write_labelme
from clipself.data.labels.objects import Export
from clipself.data.labels.voc import write_voc
from clipself.data.labels.yolo import write_boxes, write_polygons

LabelWriter = Callable[[Export, Path], Path]
"""(what, folder) -> the file or folder to open or import."""

LABEL_FORMATS: Final[Mapping[str, LabelWriter]] = {
    "coco": write_coco,
    "yolo": write_boxes,
    "yolo-polygons": write_polygons,
    "label-studio": write_label_studio,
    "labelme": write_labelme,
    "cvat": write_cvat,
    "voc": write_voc,
}
"""Format -> its writer; a new one is a file and a line."""
