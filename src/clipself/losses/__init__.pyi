from .cosine import cosine_loss as cosine_loss
from .info_nce import info_nce as info_nce
from .masked_cross_entropy import masked_cross_entropy as masked_cross_entropy

__all__ = ["cosine_loss", "info_nce", "masked_cross_entropy"]
