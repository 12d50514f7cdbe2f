from .clipself import ClipSelf as ClipSelf
from .config import DistillConfig as DistillConfig
from .keep import KeepImages as KeepImages
from .methods import METHODS as METHODS
from .methods import make_settings as make_settings
from .recipes import RECIPES as RECIPES
from .recipes import distill_recipe as distill_recipe
from .recipes import modern as modern
from .recipes import published as published
from .recipes import published_eva_l14 as published_eva_l14
from .recipes import published_openai_b16 as published_openai_b16
from .recipes import published_openai_l14 as published_openai_l14
from .teacher_cache import TeacherCache as TeacherCache
from .train import distill as distill

__all__ = [
    "METHODS",
    "RECIPES",
    "ClipSelf",
    "DistillConfig",
    "KeepImages",
    "TeacherCache",
    "distill",
    "distill_recipe",
    "make_settings",
    "modern",
    "published",
    "published_eva_l14",
    "published_openai_b16",
    "published_openai_l14",
]
