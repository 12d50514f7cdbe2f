from .checkpoint import load_detector as load_detector
from .checkpoint import save_detector as save_detector
from .config import DetectionEvaluateConfig as DetectionEvaluateConfig
from .config import DetectionPredictConfig as DetectionPredictConfig
from .config import DetectionTrainConfig as DetectionTrainConfig
from .config import ProposalsConfig as ProposalsConfig
from .detector import Detector as Detector
from .detectors.baron.settings import BaronSettings as BaronSettings
from .detectors.fvit import FViTSettings as FViTSettings
from .detectors.fvlm import FvlmSettings as FvlmSettings
from .detectors.table import DETECTORS as DETECTORS
from .detectors.table import build_detector as build_detector
from .detectors.table import make_settings as make_settings
from .detectors.two_stage.fusion import FUSIONS as FUSIONS
from .detectors.two_stage.fusion import fuse_scores as fuse_scores
from .detectors.vild.settings import ViLDSettings as ViLDSettings
from .evaluate import evaluate_detector as evaluate_detector
from .evaluate import score_detector as score_detector
from .predict import annotate as annotate
from .predict import predict_images as predict_images
from .proposals import write_proposals as write_proposals
from .pseudo_boxes import write_pseudo_boxes as write_pseudo_boxes
from .recipes import DETECT_RECIPES as DETECT_RECIPES
from .recipes import detect_recipe as detect_recipe
from .region_prompt.relabel import relabel as relabel
from .region_prompt.train import train_prompt as train_prompt
from .results import to_coco as to_coco
from .results import to_pipeline as to_pipeline
from .results import to_supervision as to_supervision
from .train import train_detector as train_detector

__all__ = [
    "DETECTORS",
    "DETECT_RECIPES",
    "FUSIONS",
    "BaronSettings",
    "DetectionEvaluateConfig",
    "DetectionPredictConfig",
    "DetectionTrainConfig",
    "Detector",
    "FViTSettings",
    "FvlmSettings",
    "ProposalsConfig",
    "ViLDSettings",
    "annotate",
    "build_detector",
    "detect_recipe",
    "evaluate_detector",
    "fuse_scores",
    "load_detector",
    "make_settings",
    "predict_images",
    "relabel",
    "save_detector",
    "score_detector",
    "to_coco",
    "to_pipeline",
    "to_supervision",
    "train_detector",
    "train_prompt",
    "write_proposals",
    "write_pseudo_boxes",
]
