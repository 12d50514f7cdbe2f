from .cosine import cosine_loss as cosine_loss

__all__ = ["cosine_loss"]
