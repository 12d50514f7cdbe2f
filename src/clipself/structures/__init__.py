"""What travels between rooms: batches and results that check their own shapes."""

from clipself.renamed import attach as _attach

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
