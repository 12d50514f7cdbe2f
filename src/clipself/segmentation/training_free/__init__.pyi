from .bank import RegionBank as RegionBank
from .bank import build_bank as build_bank
from .regions import region_map as region_map
from .segmenter import TrainingFree as TrainingFree
from .settings import TrainingFreeSettings as TrainingFreeSettings
from .table import training_free_table as training_free_table

__all__ = [
    "RegionBank",
    "TrainingFree",
    "TrainingFreeSettings",
    "build_bank",
    "region_map",
    "training_free_table",
]
