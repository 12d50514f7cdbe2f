"""CLIP vision transformers that understand regions and pixels.

The names of this module are imported when they are first used, so that `import clipself` costs no torch import.

Families: `clipself.pretraining`, `clipself.distillation`, `clipself.regions`, `clipself.detection`,
`clipself.segmentation`, `clipself.panoptic`. Below them: `clipself.engine`, `clipself.backbones`, `clipself.data`,
`clipself.losses`, `clipself.layers`, `clipself.metrics`, `clipself.viz`, `clipself.text`, `clipself.structures`,
`clipself.ops`. Beside them: `clipself.workflows`, `clipself.conformance`.
"""

from clipself.renamed import attach as _attach
from clipself.renamed import find_old_modules as _find_old_modules

__version__ = "0.1.0.dev0"

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
_find_old_modules()
