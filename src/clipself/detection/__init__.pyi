from .checkpoint import load_detector as load_detector
from .checkpoint import save_detector as save_detector
from .config import DetectEvaluateConfig as DetectEvaluateConfig
from .config import DetectPredictConfig as DetectPredictConfig
from .config import DetectTrainConfig as DetectTrainConfig
from .config import ProposalsConfig as ProposalsConfig
from .detector import Detector as Detector
from .evaluate import evaluate_detector as evaluate_detector
from .evaluate import score_detector as score_detector
from .fusion import FUSIONS as FUSIONS
from .fusion import fuse_scores as fuse_scores
from .methods import METHODS as METHODS
from .methods import build_detector as build_detector
from .predict import predict_images as predict_images
from .propose import write_proposals as write_proposals
from .results import to_coco as to_coco
from .results import to_pipeline as to_pipeline
from .results import to_supervision as to_supervision
from .settings import DetectorSettings as DetectorSettings
from .train import train_detector as train_detector
from .vocabulary import Vocabulary as Vocabulary
from .vocabulary import make_vocabulary as make_vocabulary

__all__ = [
    "FUSIONS",
    "METHODS",
    "DetectEvaluateConfig",
    "DetectPredictConfig",
    "DetectTrainConfig",
    "Detector",
    "DetectorSettings",
    "ProposalsConfig",
    "Vocabulary",
    "build_detector",
    "evaluate_detector",
    "fuse_scores",
    "load_detector",
    "make_vocabulary",
    "predict_images",
    "save_detector",
    "score_detector",
    "to_coco",
    "to_pipeline",
    "to_supervision",
    "train_detector",
    "write_proposals",
]
