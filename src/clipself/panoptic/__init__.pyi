from .fcclip import FcClipHeads as FcClipHeads
from .postprocess import Instances as Instances
from .postprocess import PanopticMap as PanopticMap
from .postprocess import PanopticSegment as PanopticSegment

__all__ = ["FcClipHeads", "Instances", "PanopticMap", "PanopticSegment"]
