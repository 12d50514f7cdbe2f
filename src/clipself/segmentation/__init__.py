"""Open-vocabulary semantic segmentation on a dense CLIP: CAT-Seg, SAN and training-free readouts."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
