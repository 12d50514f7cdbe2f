from .accuracy import ClassAccuracy as ClassAccuracy
from .accuracy import MeanClassAccuracy as MeanClassAccuracy
from .confusion import ConfusionMatrix as ConfusionMatrix
from .confusion import SemanticScores as SemanticScores
from .panoptic_quality import LabelledSegment as LabelledSegment
from .panoptic_quality import PanopticQuality as PanopticQuality
from .panoptic_quality import PanopticScores as PanopticScores
from .panoptic_quality import Quality as Quality

__all__ = [
    "ClassAccuracy",
    "ConfusionMatrix",
    "LabelledSegment",
    "MeanClassAccuracy",
    "PanopticQuality",
    "PanopticScores",
    "Quality",
    "SemanticScores",
]
