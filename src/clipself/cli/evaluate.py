"""`clipself evaluate regions`."""

from collections.abc import Sequence

import tyro

from clipself.regions.config import EvaluateRegionsConfig


def evaluate_regions(words: Sequence[str]) -> int:
    """Prints the table; writes JSON and the picture where `--out` says."""
    config = tyro.cli(
        EvaluateRegionsConfig,
        args=words,
        prog="clipself evaluate regions",
        description="Classifies labelled regions by the dense map; the paper's Table 2.",
    )
    from clipself.regions.evaluate import evaluate_regions as run

    run(config)
    return 0
