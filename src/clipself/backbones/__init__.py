"""Stock CLIP towers read densely: dense maps, readouts, strict weights in and out."""

from clipself.renamed import attach as _attach

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
