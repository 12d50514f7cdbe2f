from .model import San as San
from .model import san_settings as san_settings
from .model import semantic_scores as semantic_scores
from .published import read_san as read_san
from .segmenter import SanSegmenter as SanSegmenter
from .settings import SanSettings as SanSettings
from .settings import SideSettings as SideSettings
from .side_adapter import SideAdapter as SideAdapter

__all__ = [
    "San",
    "SanSegmenter",
    "SanSettings",
    "SideAdapter",
    "SideSettings",
    "read_san",
    "san_settings",
    "semantic_scores",
]
