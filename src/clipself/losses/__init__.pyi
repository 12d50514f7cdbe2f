from .cosine import cosine_loss as cosine_loss
from .masked_cross_entropy import masked_cross_entropy as masked_cross_entropy

__all__ = ["cosine_loss", "masked_cross_entropy"]
