from .config import EvaluatePanopticConfig as EvaluatePanopticConfig
from .config import PredictPanopticConfig as PredictPanopticConfig
from .config import TrainMasksConfig as TrainMasksConfig
from .evaluate import evaluate_panoptic as evaluate_panoptic
from .evaluate import score_panoptic as score_panoptic
from .fcclip import FcClipHeads as FcClipHeads
from .judge import WAYS as WAYS
from .judge import ClipJudge as ClipJudge
from .mask_model import OwnMasks as OwnMasks
from .mask_model import load_mask_model as load_mask_model
from .masks import FileMasks as FileMasks
from .masks import MaskGenerator as MaskGenerator
from .masks import MaskSet as MaskSet
from .open_masks import open_masks as open_masks
from .postprocess import Instances as Instances
from .postprocess import PanopticMap as PanopticMap
from .postprocess import PanopticSegment as PanopticSegment
from .predict import predict_panoptic as predict_panoptic
from .segment import MIXTURES as MIXTURES
from .segment import Mixture as Mixture
from .segment import PanopticSegmenter as PanopticSegmenter
from .segment import Rules as Rules
from .train import train_masks as train_masks
from .transformers_masks import TransformersMasks as TransformersMasks

__all__ = [
    "MIXTURES",
    "WAYS",
    "ClipJudge",
    "EvaluatePanopticConfig",
    "FcClipHeads",
    "FileMasks",
    "Instances",
    "MaskGenerator",
    "MaskSet",
    "Mixture",
    "OwnMasks",
    "PanopticMap",
    "PanopticSegment",
    "PanopticSegmenter",
    "PredictPanopticConfig",
    "Rules",
    "TrainMasksConfig",
    "TransformersMasks",
    "evaluate_panoptic",
    "load_mask_model",
    "open_masks",
    "predict_panoptic",
    "score_panoptic",
    "train_masks",
]
