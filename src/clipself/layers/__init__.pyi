from .deformable_attention import DeformableAttention as DeformableAttention
from .masked_decoder import MaskedDecoder as MaskedDecoder
from .masked_decoder import QueryState as QueryState
from .pixel_decoder import PixelDecoder as PixelDecoder
from .pixel_decoder import PixelFeatures as PixelFeatures
from .sine_positions import sine_positions as sine_positions

__all__ = [
    "DeformableAttention",
    "MaskedDecoder",
    "PixelDecoder",
    "PixelFeatures",
    "QueryState",
    "sine_positions",
]
