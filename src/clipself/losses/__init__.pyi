from .captions import caption_loss as caption_loss
from .class_maps import class_map_loss as class_map_loss
from .context import context_loss as context_loss
from .context import patch_cosines as patch_cosines
from .cosine import cosine_loss as cosine_loss
from .federated import federated_columns as federated_columns
from .image_labels import IMAGE_LABEL_RULES as IMAGE_LABEL_RULES
from .image_labels import WeakRegions as WeakRegions
from .image_labels import image_label_loss as image_label_loss
from .info_nce import info_nce as info_nce
from .mask_classification import MaskClassificationLoss as MaskClassificationLoss
from .mask_classification import MaskPredictions as MaskPredictions
from .mask_classification import TermWeights as TermWeights
from .masked_cross_entropy import masked_cross_entropy as masked_cross_entropy
from .region_classes import sigmoid_class_loss as sigmoid_class_loss
from .region_classes import softmax_class_loss as softmax_class_loss

__all__ = [
    "IMAGE_LABEL_RULES",
    "MaskClassificationLoss",
    "MaskPredictions",
    "TermWeights",
    "WeakRegions",
    "caption_loss",
    "class_map_loss",
    "context_loss",
    "cosine_loss",
    "federated_columns",
    "image_label_loss",
    "info_nce",
    "masked_cross_entropy",
    "patch_cosines",
    "sigmoid_class_loss",
    "softmax_class_loss",
]
