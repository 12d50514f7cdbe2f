from .distill import RECIPES as RECIPES
from .distill import distill_recipe as distill_recipe
from .distill import modern as modern
from .distill import published as published
from .distill import published_eva_l14 as published_eva_l14
from .distill import published_openai_b16 as published_openai_b16
from .distill import published_openai_l14 as published_openai_l14
from .segment import SEGMENT_RECIPES as SEGMENT_RECIPES
from .segment import segment_recipe as segment_recipe

__all__ = [
    "RECIPES",
    "SEGMENT_RECIPES",
    "distill_recipe",
    "modern",
    "published",
    "published_eva_l14",
    "published_openai_b16",
    "published_openai_l14",
    "segment_recipe",
]
