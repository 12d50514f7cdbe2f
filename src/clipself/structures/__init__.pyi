from .batches import CaptionBatch as CaptionBatch
from .batches import DetectionBatch as DetectionBatch
from .batches import DistillBatch as DistillBatch
from .batches import MaskTargets as MaskTargets
from .batches import RegionSample as RegionSample
from .batches import SemanticBatch as SemanticBatch
from .results import Detection as Detection
from .results import Detections as Detections
from .results import Panoptic as Panoptic
from .results import PanopticSegment as PanopticSegment
from .results import Segmentation as Segmentation
from .results import TextRows as TextRows

__all__ = [
    "CaptionBatch",
    "Detection",
    "DetectionBatch",
    "Detections",
    "DistillBatch",
    "MaskTargets",
    "Panoptic",
    "PanopticSegment",
    "RegionSample",
    "Segmentation",
    "SemanticBatch",
    "TextRows",
]
