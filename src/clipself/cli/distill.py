"""`clipself distill`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import tyro

from clipself.distillation.config import DistillConfig
from clipself.recipes.distill import RECIPES, distill_recipe

REQUIRED = ("data", "out")


def distill(words: Sequence[str]) -> int:
    """Reads `--recipe` first: it sets the defaults that all other options replace."""
    rest, recipe = take_option(list(words), "--recipe", default="modern")
    defaults = distill_recipe(recipe)
    needed = {name: tyro.MISSING for name in REQUIRED}
    config: DistillConfig = tyro.cli(
        DistillConfig,
        default=_with_missing(defaults, needed),
        args=rest,
        prog="clipself distill",
        description=(
            f"Refines a CLIP's dense map on images without labels. --recipe NAME chooses the defaults below "
            f"(one of {', '.join(RECIPES)}; now {recipe}). Many GPUs: "
            "torchrun --nproc-per-node N -m clipself distill ..."
        ),
    )
    from clipself.distillation.run import distill as run

    print(run(config).to_table())
    return 0


def take_option(words: list[str], option: str, *, default: str) -> tuple[list[str], str]:
    """Takes `--option VALUE` or `--option=VALUE` out of the words.

    Raises:
        ValueError: The value is missing.
    """
    for place, word in enumerate(words):
        if word.startswith(f"{option}="):
            return words[:place] + words[place + 1 :], word.split("=", 1)[1]
        if word == option:
            if place + 1 == len(words):
                raise ValueError(f"{option} needs a value")
            return words[:place] + words[place + 2 :], words[place + 1]
    return words, default


def _with_missing(defaults: DistillConfig, needed: dict[str, Any]) -> DistillConfig:
    return replace(defaults, **needed)
