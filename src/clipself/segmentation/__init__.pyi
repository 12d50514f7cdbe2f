from .aggregator import AggregatorSettings as AggregatorSettings
from .aggregator import CostAggregator as CostAggregator
from .catseg import CatSeg as CatSeg
from .catseg import CatSegSettings as CatSegSettings
from .catseg import catseg_settings as catseg_settings
from .catseg_inference import CatSegInference as CatSegInference
from .catseg_inference import score_picture as score_picture
from .published import read_catseg as read_catseg
from .published import read_san as read_san
from .san import San as San
from .san import SanSettings as SanSettings
from .san import san_settings as san_settings
from .side_adapter import SideAdapter as SideAdapter
from .side_adapter import SideSettings as SideSettings

__all__ = [
    "AggregatorSettings",
    "CatSeg",
    "CatSegInference",
    "CatSegSettings",
    "CostAggregator",
    "San",
    "SanSettings",
    "SideAdapter",
    "SideSettings",
    "catseg_settings",
    "read_catseg",
    "read_san",
    "san_settings",
    "score_picture",
]
