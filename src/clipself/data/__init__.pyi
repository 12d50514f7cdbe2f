from .detection import ClassSplit as ClassSplit
from .detection import CocoDetection as CocoDetection
from .detection import DetectionDataset as DetectionDataset
from .detection import split_classes as split_classes
from .distill import DistillDataset as DistillDataset
from .distill import EpochSampler as EpochSampler
from .distill import collate_distill as collate_distill
from .distill import make_loader as make_loader
from .images import read_image as read_image
from .labelled import CocoInstances as CocoInstances
from .labelled import CocoPanoptic as CocoPanoptic
from .labelled import RegionSamples as RegionSamples
from .labelled import open_labelled as open_labelled
from .ov_split import write_split as write_split
from .panoptic import PanopticFile as PanopticFile
from .panoptic import PanopticWriter as PanopticWriter
from .panoptic import ScenePanoptic as ScenePanoptic
from .photographs import load_photo as load_photo
from .preprocess import Preprocess as Preprocess
from .sources import CocoImages as CocoImages
from .sources import ImageFolder as ImageFolder

__all__ = [
    "ClassSplit",
    "CocoDetection",
    "CocoImages",
    "CocoInstances",
    "CocoPanoptic",
    "DetectionDataset",
    "DistillDataset",
    "EpochSampler",
    "ImageFolder",
    "PanopticFile",
    "PanopticWriter",
    "Preprocess",
    "RegionSamples",
    "ScenePanoptic",
    "collate_distill",
    "load_photo",
    "make_loader",
    "open_labelled",
    "read_image",
    "split_classes",
    "write_split",
]
