"""SAN: a slim network beside a frozen CLIP that proposes masks and tells CLIP where to look (arXiv:2302.12242)."""

from clipself.renamed import attach as _attach

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
