"""Pictures as they come: one reader of pixels, one search for files, one reader of maps, one namer of outputs."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
