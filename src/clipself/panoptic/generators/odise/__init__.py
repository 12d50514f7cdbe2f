"""ODISE: mask decoders on a frozen diffusion model that is told what the CLIP sees (arXiv:2303.04803)."""

from clipself.renamed import attach as _attach

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
