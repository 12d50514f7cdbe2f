from .segmenter import TrainingFree as TrainingFree
from .settings import TrainingFreeSettings as TrainingFreeSettings
from .table import training_free_table as training_free_table

__all__ = [
    "TrainingFree",
    "TrainingFreeSettings",
    "training_free_table",
]
