from .caption_pairs import open_captions as open_captions
from .detection import ClassSplit as ClassSplit
from .detection import CocoDetection as CocoDetection
from .detection import DetectionDataset as DetectionDataset
from .detection import split_classes as split_classes
from .distill import DistillDataset as DistillDataset
from .distill import collate_distill as collate_distill
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
from .prepare import ARCHIVES as ARCHIVES
from .prepare import prepare as prepare
from .preprocess import Preprocess as Preprocess
from .semantic import IndexMaps as IndexMaps
from .semantic import PanopticMaps as PanopticMaps
from .semantic import SceneMaps as SceneMaps
from .semantic import SomeClasses as SomeClasses
from .semantic import open_semantic as open_semantic
from .semantic_training import SemanticCrops as SemanticCrops
from .sources import CocoImages as CocoImages
from .sources import ImageFolder as ImageFolder

__all__ = [
    "ARCHIVES",
    "ClassSplit",
    "CocoDetection",
    "CocoImages",
    "CocoInstances",
    "CocoPanoptic",
    "DetectionDataset",
    "DistillDataset",
    "ImageFolder",
    "IndexMaps",
    "PanopticFile",
    "PanopticMaps",
    "PanopticWriter",
    "Preprocess",
    "RegionSamples",
    "SceneMaps",
    "ScenePanoptic",
    "SemanticCrops",
    "SomeClasses",
    "collate_distill",
    "load_photo",
    "open_captions",
    "open_labelled",
    "open_semantic",
    "prepare",
    "read_image",
    "split_classes",
    "write_split",
]
