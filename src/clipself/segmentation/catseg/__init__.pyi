from .aggregator import CostAggregator as CostAggregator
from .inference import CatSegInference as CatSegInference
from .inference import score_picture as score_picture
from .model import CatSeg as CatSeg
from .model import catseg_settings as catseg_settings
from .model import choose_learning as choose_learning
from .model import fitting_window as fitting_window
from .published import read_catseg as read_catseg
from .segmenter import CatSegSegmenter as CatSegSegmenter
from .settings import AggregatorSettings as AggregatorSettings
from .settings import CatSegSettings as CatSegSettings

__all__ = [
    "AggregatorSettings",
    "CatSeg",
    "CatSegInference",
    "CatSegSegmenter",
    "CatSegSettings",
    "CostAggregator",
    "catseg_settings",
    "choose_learning",
    "fitting_window",
    "read_catseg",
    "score_picture",
]
