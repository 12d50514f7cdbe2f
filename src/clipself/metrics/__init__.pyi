from .accuracy import ClassAccuracy as ClassAccuracy
from .accuracy import MeanClassAccuracy as MeanClassAccuracy
from .coco_ap import DetectionScores as DetectionScores
from .coco_ap import coco_ap as coco_ap
from .confusion import ConfusionMatrix as ConfusionMatrix
from .confusion import SemanticScores as SemanticScores
from .lvis_ap import lvis_ap as lvis_ap
from .mask_ap import MaskAP as MaskAP
from .mask_ap import MaskPrecision as MaskPrecision
from .panoptic_quality import LabelledSegment as LabelledSegment
from .panoptic_quality import PanopticQuality as PanopticQuality
from .panoptic_quality import PanopticScores as PanopticScores
from .panoptic_quality import Quality as Quality

__all__ = [
    "ClassAccuracy",
    "ConfusionMatrix",
    "DetectionScores",
    "LabelledSegment",
    "MaskAP",
    "MaskPrecision",
    "MeanClassAccuracy",
    "PanopticQuality",
    "PanopticScores",
    "Quality",
    "SemanticScores",
    "coco_ap",
    "lvis_ap",
]
