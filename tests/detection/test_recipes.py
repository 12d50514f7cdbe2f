"""Published settings of detectors: how their rates begin, and what captions weigh."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipself.detection.recipes import detect_recipe
from clipself.engine.run import rate_of
from clipself.engine.state import Phase

GOLDEN = Path(__file__).parents[1] / "golden" / "detic_recipe.npz"


def settings(name: str, **changes: Any) -> Any:
    return detect_recipe(name, annotations=Path("a.json"), images=Path("images"), out=Path("out"), **changes)


@pytest.mark.parametrize(
    ("stored", "recipe", "changes"),
    [
        ("lr/lvis_boxsup", "ov-lvis-detic-r50", {}),
        ("lr/lvis_detic", "ov-lvis-detic-r50", {"warmup_steps": 1000, "warmup_start": 1e-3}),
        ("lr/coco", "ov-coco-detic", {}),
    ],
)
def test_detic_learns_at_the_released_rates(stored: str, recipe: str, changes: dict[str, Any]) -> None:
    config = settings(recipe, **changes)
    rate = rate_of(config, Phase(start=0, end=config.max_steps), 1)
    with np.load(GOLDEN) as arrays:
        ours = [rate(int(step)) for step in arrays["iterations"]]
        np.testing.assert_allclose(ours, arrays[stored], rtol=1e-5)


@pytest.mark.parametrize("recipe", ["ov-coco-b16", "ov-coco-l14", "ov-lvis-b16", "ov-lvis-l14"])
def test_fvit_warms_up_from_a_thousandth_of_its_rate(recipe: str) -> None:
    """MMDetection's linear warm-up of 250 steps with a ratio of 0.001, written out."""
    rate = rate_of(settings(recipe), Phase(start=0, end=5000), 1000)
    for step in (0, 1, 100, 249):
        missing = (1 - step / 250) * (1 - 0.001)
        assert rate(step) == pytest.approx(1e-4 * (1 - missing)), step
    assert rate(250) == 1e-4


def test_other_captions_weigh_as_much_as_the_own_one_on_ov_coco() -> None:
    assert settings("ov-coco-detic").image_label_caption_negatives == 1.0
