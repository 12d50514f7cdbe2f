from .backbone import DiffusionFeatures as DiffusionFeatures
from .backbone import DiffusionPyramid as DiffusionPyramid
from .captioner import ImplicitCaptioner as ImplicitCaptioner
from .heads import OdiseHeads as OdiseHeads

__all__ = ["DiffusionFeatures", "DiffusionPyramid", "ImplicitCaptioner", "OdiseHeads"]
