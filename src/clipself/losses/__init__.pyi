from .class_maps import class_map_loss as class_map_loss
from .cosine import cosine_loss as cosine_loss
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
    "masked_cross_entropy",
]
