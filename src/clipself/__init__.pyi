from .backbones.dense_clip import DenseCLIP as DenseCLIP
from .backbones.loading import load_clip as load_clip
from .conformance.run import parity as parity
from .data.images import read_image as read_image
from .detection.detector import Detector as Detector
from .detection.evaluate import evaluate_detector as evaluate_detector
from .detection.predict import predict_images as predict_images
from .detection.train import train_detector as train_detector
from .distillation.train import distill as distill
from .panoptic.evaluate import evaluate_panoptic as evaluate_panoptic
from .panoptic.predict import predict_panoptic as predict_panoptic
from .panoptic.segmenter import PanopticSegmenter as PanopticSegmenter
from .panoptic.train import train_panoptic as train_panoptic
from .pretraining.train import pretrain as pretrain
from .regions.evaluate import evaluate_regions as evaluate_regions
from .segmentation.checkpoint import load_segmenter as load_segmenter
from .segmentation.evaluate import evaluate_segmenters as evaluate_segmenters
from .segmentation.predict import open_segmenter as open_segmenter
from .segmentation.predict import predict_segments as predict_segments
from .segmentation.train import train_segmenter as train_segmenter
from .segmentation.training_free import TrainingFree as TrainingFree
from .workflows.embedding.run import embed as embed
from .workflows.labelling.run import label as label
from .workflows.live.run import demo as demo
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
    "TrainingFree",
    "blend",
    "convert",
    "demo",
    "distill",
    "embed",
    "evaluate_detector",
    "evaluate_panoptic",
    "evaluate_regions",
    "evaluate_segmenters",
    "label",
    "load_clip",
    "load_segmenter",
    "open_segmenter",
    "parity",
    "predict_images",
    "predict_panoptic",
    "predict_segments",
    "pretrain",
    "quickstart",
    "read_image",
    "show_kmeans",
    "show_query",
    "train_detector",
    "train_panoptic",
    "train_segmenter",
]
