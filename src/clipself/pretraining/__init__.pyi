from .config import PretrainConfig as PretrainConfig
from .recipes import PRETRAIN_RECIPES as PRETRAIN_RECIPES
from .recipes import pretrain_recipe as pretrain_recipe
from .train import pretrain as pretrain

__all__ = [
    "PRETRAIN_RECIPES",
    "PretrainConfig",
    "pretrain",
    "pretrain_recipe",
]
