"""Segmentation without training: cosines of the dense map with the names, in windows."""

from clipself.renamed import attach as _attach

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
