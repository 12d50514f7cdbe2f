"""Contrastive pre-training of a CLIP on pictures with captions: plain, as RO-ViT, and as CFM-ViT."""

from clipself.renamed import attach as _attach

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
