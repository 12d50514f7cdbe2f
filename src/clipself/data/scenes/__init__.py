"""Generated scenes with perfect labels: colour art on textured ground, boxes, masks and panoptic maps."""

from clipself.renamed import attach as _attach

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
