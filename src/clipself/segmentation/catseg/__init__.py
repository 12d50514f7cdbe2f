"""CAT-Seg: the cosines of a dense map with the names, refined by a cost aggregator (arXiv:2303.11797)."""

from clipself.renamed import attach as _attach

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
