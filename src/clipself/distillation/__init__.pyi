from .clipself import ClipSelf as ClipSelf
from .config import DistillConfig as DistillConfig
from .run import DistillResult as DistillResult
from .run import distill as distill
from .teacher_cache import TeacherCache as TeacherCache

__all__ = ["ClipSelf", "DistillConfig", "DistillResult", "TeacherCache", "distill"]
