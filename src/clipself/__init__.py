"""CLIP vision transformers that understand regions and pixels.

The names of this module are imported when they are first used, so that `import clipself` costs no torch import.
"""

import lazy_loader as _lazy

__version__ = "0.1.0.dev0"

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
