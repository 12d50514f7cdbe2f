"""Open-vocabulary panoptic segmentation: any mask generator, and a CLIP that knows regions."""

from clipself.renamed import attach as _attach

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
