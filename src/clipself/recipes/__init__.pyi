from .detect import DETECT_RECIPES as DETECT_RECIPES
from .detect import detect_recipe as detect_recipe
from .distill import RECIPES as RECIPES
from .distill import distill_recipe as distill_recipe
from .distill import modern as modern
from .distill import published as published
from .distill import published_eva_l14 as published_eva_l14
from .distill import published_openai_b16 as published_openai_b16
from .distill import published_openai_l14 as published_openai_l14
from .panoptic import PANOPTIC_RECIPES as PANOPTIC_RECIPES
from .panoptic import panoptic_recipe as panoptic_recipe
from .segment import SEGMENT_RECIPES as SEGMENT_RECIPES
from .segment import segment_recipe as segment_recipe

__all__ = [
    "DETECT_RECIPES",
    "PANOPTIC_RECIPES",
    "RECIPES",
    "SEGMENT_RECIPES",
    "detect_recipe",
    "distill_recipe",
    "modern",
    "panoptic_recipe",
    "published",
    "published_eva_l14",
    "published_openai_b16",
    "published_openai_l14",
    "segment_recipe",
]
