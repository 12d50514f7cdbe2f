from .norms import NORMS as NORMS
from .norms import BatchNorm as BatchNorm
from .norms import ConvNorm as ConvNorm
from .norms import make_norm as make_norm
from .pyramid import FeaturePyramid as FeaturePyramid
from .pyramid import TapPyramid as TapPyramid
from .region_heads import AnchorHead as AnchorHead
from .region_heads import MaskHead as MaskHead
from .region_heads import RegionHead as RegionHead

__all__ = [
    "NORMS",
    "AnchorHead",
    "BatchNorm",
    "ConvNorm",
    "FeaturePyramid",
    "MaskHead",
    "RegionHead",
    "TapPyramid",
    "make_norm",
]
