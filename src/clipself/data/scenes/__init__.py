"""Generated scenes with perfect labels: colour art on textured ground, boxes, masks and panoptic maps."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
