from .deformable_attention import DeformableAttention as DeformableAttention
from .masked_decoder import MaskedDecoder as MaskedDecoder
from .masked_decoder import QueryState as QueryState
from .norms import NORMS as NORMS
from .norms import BatchNorm as BatchNorm
from .norms import ConvNorm as ConvNorm
from .norms import make_norm as make_norm
from .pixel_decoder import PixelDecoder as PixelDecoder
from .pixel_decoder import PixelFeatures as PixelFeatures
from .pyramid import FeaturePyramid as FeaturePyramid
from .pyramid import TapPyramid as TapPyramid
from .region_heads import AnchorHead as AnchorHead
from .region_heads import MaskHead as MaskHead
from .region_heads import RegionHead as RegionHead
from .sine_positions import sine_positions as sine_positions

__all__ = [
    "NORMS",
    "AnchorHead",
    "BatchNorm",
    "ConvNorm",
    "DeformableAttention",
    "FeaturePyramid",
    "MaskHead",
    "MaskedDecoder",
    "PixelDecoder",
    "PixelFeatures",
    "QueryState",
    "RegionHead",
    "TapPyramid",
    "make_norm",
    "sine_positions",
]
