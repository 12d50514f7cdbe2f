from .accuracy import ClassAccuracy as ClassAccuracy
from .accuracy import MeanClassAccuracy as MeanClassAccuracy
from .coco_ap import DetectionScores as DetectionScores
from .coco_ap import coco_ap as coco_ap
from .lvis_ap import lvis_ap as lvis_ap

__all__ = ["ClassAccuracy", "DetectionScores", "MeanClassAccuracy", "coco_ap", "lvis_ap"]
