from .aggregator import AggregatorSettings as AggregatorSettings
from .aggregator import CostAggregator as CostAggregator
from .build import load_segmenter as load_segmenter
from .build import save_segmenter as save_segmenter
from .catseg import CatSeg as CatSeg
from .catseg import CatSegSettings as CatSegSettings
from .catseg import catseg_settings as catseg_settings
from .catseg_inference import CatSegInference as CatSegInference
from .catseg_inference import score_picture as score_picture
from .config import SegmentEvaluateConfig as SegmentEvaluateConfig
from .config import SegmentPredictConfig as SegmentPredictConfig
from .config import SegmentTableConfig as SegmentTableConfig
from .config import SegmentTrainConfig as SegmentTrainConfig
from .decide import decide as decide
from .evaluate import score_segmenter as score_segmenter
from .published import read_catseg as read_catseg
from .published import read_san as read_san
from .report import SegmentationReport as SegmentationReport
from .san import San as San
from .san import SanSettings as SanSettings
from .san import san_settings as san_settings
from .segmenters import CatSegSegmenter as CatSegSegmenter
from .segmenters import SanSegmenter as SanSegmenter
from .side_adapter import SideAdapter as SideAdapter
from .side_adapter import SideSettings as SideSettings
from .train import train_segmenter as train_segmenter
from .training_free import TrainingFree as TrainingFree
from .training_free import TrainingFreeSettings as TrainingFreeSettings
from .workflow import evaluate_segmenters as evaluate_segmenters
from .workflow import predict_segments as predict_segments
from .workflow import training_free_table as training_free_table

__all__ = [
    "AggregatorSettings",
    "CatSeg",
    "CatSegInference",
    "CatSegSegmenter",
    "CatSegSettings",
    "CostAggregator",
    "San",
    "SanSegmenter",
    "SanSettings",
    "SegmentEvaluateConfig",
    "SegmentPredictConfig",
    "SegmentTableConfig",
    "SegmentTrainConfig",
    "SegmentationReport",
    "SideAdapter",
    "SideSettings",
    "TrainingFree",
    "TrainingFreeSettings",
    "catseg_settings",
    "decide",
    "evaluate_segmenters",
    "load_segmenter",
    "predict_segments",
    "read_catseg",
    "read_san",
    "san_settings",
    "save_segmenter",
    "score_picture",
    "score_segmenter",
    "train_segmenter",
    "training_free_table",
]
