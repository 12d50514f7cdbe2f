from .catseg import AggregatorSettings as AggregatorSettings
from .catseg import CatSeg as CatSeg
from .catseg import CatSegInference as CatSegInference
from .catseg import CatSegSegmenter as CatSegSegmenter
from .catseg import CatSegSettings as CatSegSettings
from .catseg import CostAggregator as CostAggregator
from .catseg import catseg_settings as catseg_settings
from .catseg import read_catseg as read_catseg
from .catseg import score_picture as score_picture
from .checkpoint import load_segmenter as load_segmenter
from .checkpoint import save_segmenter as save_segmenter
from .config import SegmentationEvaluateConfig as SegmentationEvaluateConfig
from .config import SegmentationPredictConfig as SegmentationPredictConfig
from .config import SegmentationTableConfig as SegmentationTableConfig
from .config import SegmentationTrainConfig as SegmentationTrainConfig
from .evaluate import evaluate_segmenters as evaluate_segmenters
from .evaluate import score_segmenter as score_segmenter
from .predict import open_segmenter as open_segmenter
from .predict import predict_segments as predict_segments
from .recipes import SEGMENT_RECIPES as SEGMENT_RECIPES
from .recipes import segment_recipe as segment_recipe
from .report import SegmentationReport as SegmentationReport
from .san import San as San
from .san import SanSegmenter as SanSegmenter
from .san import SanSettings as SanSettings
from .san import SideAdapter as SideAdapter
from .san import SideSettings as SideSettings
from .san import read_san as read_san
from .san import san_settings as san_settings
from .segmenter import Segmenter as Segmenter
from .segmenters import SEGMENTERS as SEGMENTERS
from .settings import SegmenterSettings as SegmenterSettings
from .streamed_argmax import streamed_argmax as streamed_argmax
from .train import train_segmenter as train_segmenter
from .training_free import RegionBank as RegionBank
from .training_free import TrainingFree as TrainingFree
from .training_free import TrainingFreeSettings as TrainingFreeSettings
from .training_free import build_bank as build_bank
from .training_free import region_map as region_map
from .training_free import training_free_table as training_free_table

__all__ = [
    "SEGMENTERS",
    "SEGMENT_RECIPES",
    "AggregatorSettings",
    "CatSeg",
    "CatSegInference",
    "CatSegSegmenter",
    "CatSegSettings",
    "CostAggregator",
    "RegionBank",
    "San",
    "SanSegmenter",
    "SanSettings",
    "SegmentationEvaluateConfig",
    "SegmentationPredictConfig",
    "SegmentationReport",
    "SegmentationTableConfig",
    "SegmentationTrainConfig",
    "Segmenter",
    "SegmenterSettings",
    "SideAdapter",
    "SideSettings",
    "TrainingFree",
    "TrainingFreeSettings",
    "build_bank",
    "catseg_settings",
    "evaluate_segmenters",
    "load_segmenter",
    "open_segmenter",
    "predict_segments",
    "read_catseg",
    "read_san",
    "region_map",
    "san_settings",
    "save_segmenter",
    "score_picture",
    "score_segmenter",
    "segment_recipe",
    "streamed_argmax",
    "train_segmenter",
    "training_free_table",
]
