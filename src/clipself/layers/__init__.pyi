from .deformable_attention import DeformableAttention as DeformableAttention
from .guided_window import GuidedWindowBlock as GuidedWindowBlock
from .linear_attention import LinearAttention as LinearAttention
from .masked_decoder import MaskedDecoder as MaskedDecoder
from .masked_decoder import QueryState as QueryState
from .norms import NORMS as NORMS
from .norms import BatchNorm as BatchNorm
from .norms import ConvNorm as ConvNorm
from .norms import make_norm as make_norm
from .pixel_decoder import PixelDecoder as PixelDecoder
from .pixel_decoder import PixelFeatures as PixelFeatures
from .pointwise_mlp import PointwiseMLP as PointwiseMLP
from .pyramid import FeaturePyramid as FeaturePyramid
from .pyramid import TapPyramid as TapPyramid
from .region_heads import AnchorHead as AnchorHead
from .region_heads import MaskHead as MaskHead
from .region_heads import RegionHead as RegionHead
from .sine_positions import sine_positions as sine_positions
from .upsampling import DoubleConv as DoubleConv
from .upsampling import GuidedUpsample as GuidedUpsample

__all__ = [
    "NORMS",
    "AnchorHead",
    "BatchNorm",
    "ConvNorm",
    "DeformableAttention",
    "DoubleConv",
    "FeaturePyramid",
    "GuidedUpsample",
    "GuidedWindowBlock",
    "LinearAttention",
    "MaskHead",
    "MaskedDecoder",
    "PixelDecoder",
    "PixelFeatures",
    "PointwiseMLP",
    "QueryState",
    "RegionHead",
    "TapPyramid",
    "make_norm",
    "sine_positions",
]
