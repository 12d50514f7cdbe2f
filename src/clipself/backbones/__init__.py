"""Stock CLIP towers read densely: dense maps, readouts, strict weights in and out."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
