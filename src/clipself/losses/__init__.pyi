from .cosine import cosine_loss as cosine_loss
from .mask_classification import MaskClassificationLoss as MaskClassificationLoss
from .mask_classification import MaskPredictions as MaskPredictions
from .mask_classification import TermWeights as TermWeights

__all__ = ["MaskClassificationLoss", "MaskPredictions", "TermWeights", "cosine_loss"]
