"""Published settings of mask generators: their rates and the sizes at which they see pictures."""

from pathlib import Path

import pytest

from clipself.engine.run import rate_of
from clipself.engine.state import Phase
from clipself.ops.patches import fit_shortest
from clipself.panoptic.recipes import panoptic_recipe

STATED, RUN = 184_375, 92_188
"""Steps that ODISE's release writes its schedule for, and those that it runs."""


def stated_share(step: int) -> float:
    """The release's rate at a step: its schedule takes shares of the run, and asks which of its own steps they are."""
    among = int((1 - 1e-6) * step / RUN * STATED)
    return 1.0 if among < 163_889 else 0.1 if among < 177_546 else 0.01


@pytest.mark.parametrize("name", ["coco-odise-label", "coco-odise-caption"])
def test_odise_drops_its_rate_at_the_released_shares_of_its_run(name: str) -> None:
    captions = {"captions": Path("captions.json")} if name.endswith("caption") else {}
    config = panoptic_recipe(name, annotations=Path("a.json"), images=Path("i"), out=Path("o"), **captions)
    assert config.max_steps == RUN
    rate = rate_of(config, Phase(start=0, end=RUN), 1)
    for step in (500, 60_000, 81_900, 82_000, 88_700, 88_800, RUN - 1):
        assert rate(step) == pytest.approx(1e-4 * stated_share(step)), step


def test_fcclip_sees_pictures_as_large_as_published() -> None:
    generator = panoptic_recipe("fcclip", annotations=Path("a.json"), images=Path("i"), out=Path("o")).generator
    assert (generator.shortest, generator.longest) == (800, 1333)
    assert fit_shortest((480, 640), shortest=800, longest=1333, patch=1) == (800, 1067)
    assert fit_shortest((400, 800), shortest=800, longest=1333, patch=1) == (666, 1333)
