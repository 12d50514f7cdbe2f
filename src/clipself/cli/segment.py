"""`clipself segment train`, `evaluate`, `table` and `predict`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import tyro

from clipself.cli.train import take_option
from clipself.segmentation.config import (
    SegmentationEvaluateConfig,
    SegmentationPredictConfig,
    SegmentationTableConfig,
    SegmentationTrainConfig,
)
from clipself.segmentation.recipes import SEGMENT_RECIPES, segment_recipe


def segment_train(words: Sequence[str]) -> int:
    """Reads `--recipe` first: it sets the defaults that all other options replace."""
    rest, named = take_option(list(words), "--recipe")
    recipe = named or "small-catseg"
    needed: dict[str, Any] = {"data": tyro.MISSING, "out": tyro.MISSING}
    config: SegmentationTrainConfig = tyro.cli(
        SegmentationTrainConfig,
        default=replace(segment_recipe(recipe), **needed),
        args=rest,
        prog="clipself segment train",
        description=(
            f"Trains open-vocabulary semantic segmentation on a dense CLIP, raw or refined. --recipe NAME chooses the "
            f"defaults below (one of {', '.join(SEGMENT_RECIPES)}; now {recipe}). Many GPUs: "
            "torchrun --nproc-per-node N -m clipself segment train ..."
        ),
    )
    from clipself.segmentation.train import train_segmenter

    print(train_segmenter(config).to_table())
    return 0


def segment_evaluate(words: Sequence[str]) -> int:
    """Prints the table; writes JSON and pictures where `--out` says."""
    config = tyro.cli(SegmentationEvaluateConfig, args=words, prog="clipself segment evaluate")
    from clipself.segmentation.evaluate import evaluate_segmenters

    evaluate_segmenters(config)
    return 0


def segment_table(words: Sequence[str]) -> int:
    """Prints the table of the training-free readouts."""
    config = tyro.cli(SegmentationTableConfig, args=words, prog="clipself segment table")
    from clipself.segmentation.training_free.table import training_free_table

    training_free_table(config)
    return 0


def segment_predict(words: Sequence[str]) -> int:
    """Draws and says where."""
    config = tyro.cli(SegmentationPredictConfig, args=words, prog="clipself segment predict")
    from clipself.segmentation.predict import predict_segments

    print(predict_segments(config))
    return 0
