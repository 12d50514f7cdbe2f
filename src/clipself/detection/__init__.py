"""Open-vocabulary detectors on a frozen dense CLIP: F-ViT and its relatives."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
