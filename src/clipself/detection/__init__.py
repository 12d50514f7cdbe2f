"""Open-vocabulary detectors on a frozen dense CLIP: F-ViT and its relatives."""

from clipself.renamed import attach as _attach

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
