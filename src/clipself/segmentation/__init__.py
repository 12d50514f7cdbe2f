"""Open-vocabulary semantic segmentation on a dense CLIP: CAT-Seg, SAN and training-free readouts."""

from clipself.renamed import attach as _attach

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
