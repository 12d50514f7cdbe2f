"""`clipself panoptic train`, `panoptic evaluate` and `panoptic predict`."""

from collections.abc import Sequence

import tyro

from clipself.cli.train import take_option
from clipself.panoptic.config import PanopticEvaluateConfig, PanopticPredictConfig, PanopticTrainConfig
from clipself.panoptic.recipes import PANOPTIC_RECIPES, panoptic_recipe


def panoptic_train(words: Sequence[str]) -> int:
    """Reads `--recipe` first: it sets the defaults that all other options replace."""
    rest, recipe = take_option(list(words), "--recipe", default="small")
    config: PanopticTrainConfig = tyro.cli(
        PanopticTrainConfig,
        default=panoptic_recipe(recipe, annotations=tyro.MISSING, images=tyro.MISSING, out=tyro.MISSING),
        args=rest,
        prog="clipself panoptic train",
        description=(
            "Trains a mask generator of our own, FC-CLIP's decoders on a frozen CLIP. --recipe NAME chooses the "
            f"defaults below (one of {', '.join(PANOPTIC_RECIPES)}; now {recipe})."
        ),
    )
    from clipself.panoptic.train import train_panoptic

    print(train_panoptic(config).to_table())
    return 0


def panoptic_evaluate(words: Sequence[str]) -> int:
    """Prints the table; writes JSON, predictions and pictures where `--out` says."""
    config = tyro.cli(PanopticEvaluateConfig, args=words, prog="clipself panoptic evaluate")
    from clipself.panoptic.evaluate import evaluate_panoptic

    evaluate_panoptic(config)
    return 0


def panoptic_predict(words: Sequence[str]) -> int:
    """Says what was written."""
    config = tyro.cli(PanopticPredictConfig, args=words, prog="clipself panoptic predict")
    from clipself.panoptic.predict import predict_panoptic

    print(predict_panoptic(config).to_table())
    return 0
