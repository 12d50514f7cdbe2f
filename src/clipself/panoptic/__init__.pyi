from .config import PanopticEvaluateConfig as PanopticEvaluateConfig
from .config import PanopticPredictConfig as PanopticPredictConfig
from .config import PanopticTrainConfig as PanopticTrainConfig
from .evaluate import evaluate_panoptic as evaluate_panoptic
from .evaluate import score_panoptic as score_panoptic
from .generators.files import FileMasks as FileMasks
from .generators.mask_set import MaskGenerator as MaskGenerator
from .generators.mask_set import MaskSet as MaskSet
from .generators.own import OwnMasks as OwnMasks
from .generators.table import GENERATORS as GENERATORS
from .generators.table import open_generator as open_generator
from .generators.transformers import TransformersMasks as TransformersMasks
from .judge import WAYS as WAYS
from .judge import ClipJudge as ClipJudge
from .mixture import MIXTURES as MIXTURES
from .mixture import Mixture as Mixture
from .predict import predict_panoptic as predict_panoptic
from .recipes import PANOPTIC_RECIPES as PANOPTIC_RECIPES
from .recipes import panoptic_recipe as panoptic_recipe
from .segmenter import PanopticSegmenter as PanopticSegmenter
from .settings import JudgeSettings as JudgeSettings
from .settings import MaskLossSettings as MaskLossSettings
from .settings import OdiseSettings as OdiseSettings
from .settings import OwnMasksSettings as OwnMasksSettings
from .settings import Rules as Rules
from .to_maps import Instances as Instances
from .train import train_panoptic as train_panoptic

__all__ = [
    "GENERATORS",
    "MIXTURES",
    "PANOPTIC_RECIPES",
    "WAYS",
    "ClipJudge",
    "FileMasks",
    "Instances",
    "JudgeSettings",
    "MaskGenerator",
    "MaskLossSettings",
    "MaskSet",
    "Mixture",
    "OdiseSettings",
    "OwnMasks",
    "OwnMasksSettings",
    "PanopticEvaluateConfig",
    "PanopticPredictConfig",
    "PanopticSegmenter",
    "PanopticTrainConfig",
    "Rules",
    "TransformersMasks",
    "evaluate_panoptic",
    "open_generator",
    "panoptic_recipe",
    "predict_panoptic",
    "score_panoptic",
    "train_panoptic",
]
