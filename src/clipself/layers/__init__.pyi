from .deformable_attention import DeformableAttention as DeformableAttention
from .guided_window import GuidedWindowBlock as GuidedWindowBlock
from .linear_attention import LinearAttention as LinearAttention
from .masked_decoder import MaskedDecoder as MaskedDecoder
from .masked_decoder import QueryState as QueryState
from .pixel_decoder import PixelDecoder as PixelDecoder
from .pixel_decoder import PixelFeatures as PixelFeatures
from .pointwise_mlp import PointwiseMLP as PointwiseMLP
from .sine_positions import sine_positions as sine_positions
from .upsampling import DoubleConv as DoubleConv
from .upsampling import GuidedUpsample as GuidedUpsample

__all__ = [
    "DeformableAttention",
    "DoubleConv",
    "GuidedUpsample",
    "GuidedWindowBlock",
    "LinearAttention",
    "MaskedDecoder",
    "PixelDecoder",
    "PixelFeatures",
    "PointwiseMLP",
    "QueryState",
    "sine_positions",
]
