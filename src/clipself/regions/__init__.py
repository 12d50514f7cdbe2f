"""Region classification: the measure of a dense map (Table 2 of the paper)."""

from clipself.renamed import attach as _attach

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
