"""Published settings of distillation: how long they train."""

import math
from pathlib import Path

import pytest

from clipself.distillation.recipes import RECIPES, distill_recipe

COCO_IMAGES, PROCESSES, BATCH, EPOCHS = 118_287, 8, 2, 6


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("published")])
def test_published_recipes_make_the_steps_of_one_of_the_releases_processes(name: str) -> None:
    """The sampler fills the images up to a multiple of the processes; an incomplete batch is left out."""
    config = distill_recipe(name, data=Path("photos"), out=Path("run"))
    per_epoch = math.ceil(COCO_IMAGES / PROCESSES) // BATCH
    assert per_epoch == 7_393
    assert (config.batch_size, config.accumulate) == (BATCH, 1)
    assert config.max_steps == EPOCHS * per_epoch


def test_a_length_in_epochs_takes_their_place() -> None:
    config = distill_recipe("published", data=Path("photos"), out=Path("run"), epochs=2)
    assert (config.epochs, config.max_steps) == (2, None)
