from .backbones.dense_clip import DenseCLIP as DenseCLIP
from .backbones.loading import load_clip as load_clip
from .conformance.run import parity as parity
from .detection.detector import Detector as Detector
from .detection.train import train_detector as train_detector
from .distillation.train import distill as distill
from .panoptic.segmenter import PanopticSegmenter as PanopticSegmenter
from .panoptic.train import train_panoptic as train_panoptic
from .regions.evaluate import evaluate_regions as evaluate_regions
from .workflows.quickstart import quickstart as quickstart
from .workflows.show import show_kmeans as show_kmeans
from .workflows.show import show_query as show_query
from .workflows.weights import blend as blend
from .workflows.weights import convert as convert

__version__: str

__all__ = [
    "DenseCLIP",
    "Detector",
    "PanopticSegmenter",
    "blend",
    "convert",
    "distill",
    "evaluate_regions",
    "load_clip",
    "parity",
    "quickstart",
    "show_kmeans",
    "show_query",
    "train_detector",
    "train_panoptic",
]
