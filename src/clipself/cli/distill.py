"""`clipself distill`."""

from collections.abc import Sequence

from clipself.cli.train import read_run, say
from clipself.distillation.config import DistillConfig
from clipself.distillation.recipes import RECIPES


def distill(words: Sequence[str]) -> int:
    """Trains and says where the weights are."""
    about = "Refines a CLIP's dense map on images without labels."
    config = read_run(DistillConfig, RECIPES, words, command="distill", about=about)
    from clipself.distillation.train import distill as run

    return say(run(config))
