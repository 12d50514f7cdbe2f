from .class_maps import class_map_loss as class_map_loss
from .cosine import cosine_loss as cosine_loss
from .federated import federated_columns as federated_columns
from .info_nce import info_nce as info_nce
from .mask_classification import MaskClassificationLoss as MaskClassificationLoss
from .mask_classification import MaskPredictions as MaskPredictions
from .mask_classification import TermWeights as TermWeights
from .masked_cross_entropy import masked_cross_entropy as masked_cross_entropy

__all__ = [
    "MaskClassificationLoss",
    "MaskPredictions",
    "TermWeights",
    "class_map_loss",
    "cosine_loss",
    "federated_columns",
    "info_nce",
    "masked_cross_entropy",
]
