"""`clipself segment train`, `evaluate`, `table`, `predict` and `import`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from clipself.cli.train import read_run, say
from clipself.renamed import FIELDS, warn_renamed
from clipself.segmentation.config import (
    SegmentationEvaluateConfig,
    SegmentationPredictConfig,
    SegmentationTableConfig,
    SegmentationTrainConfig,
)
from clipself.segmentation.recipes import SEGMENT_RECIPES


def segment_train(words: Sequence[str]) -> int:
    """Trains and says where the model is."""
    about = "Trains open-vocabulary semantic segmentation on a dense CLIP, raw or refined."
    words = rename_flags(SegmentationTrainConfig, words)
    config = read_run(SegmentationTrainConfig, SEGMENT_RECIPES, words, command="segment train", about=about)
    from clipself.segmentation.train import train_segmenter

    return say(train_segmenter(config))


def segment_evaluate(words: Sequence[str]) -> int:
    """Prints the table; writes JSON and pictures where `--out` says."""
    words = rename_flags(SegmentationEvaluateConfig, words)
    config = tyro.cli(SegmentationEvaluateConfig, args=words, prog="clipself segment evaluate")
    from clipself.segmentation.evaluate import evaluate_segmenters

    evaluate_segmenters(config)
    return 0


def segment_table(words: Sequence[str]) -> int:
    """Prints the table of the training-free readouts."""
    words = rename_flags(SegmentationTableConfig, words)
    config = tyro.cli(SegmentationTableConfig, args=words, prog="clipself segment table")
    from clipself.segmentation.training_free.table import training_free_table

    training_free_table(config)
    return 0


def segment_predict(words: Sequence[str]) -> int:
    """Draws and says where."""
    config = tyro.cli(
        PredictOptions,
        args=images_first(words),
        prog="clipself segment predict",
        description="Names every pixel: clipself segment predict photos/ --names cat dog [--checkpoint runs/mine]",
    )
    from clipself.segmentation.predict import predict_segments

    print(predict_segments(config))
    return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictOptions(SegmentationPredictConfig):
    """As `SegmentationPredictConfig`, with the pictures without a flag."""

    images: tyro.conf.Positional[tuple[Path, ...]]
    """Picture files, or folders of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportOptions:
    """Writes a released CAT-Seg or SAN checkpoint as a segmenter folder."""

    weights: Path
    """The released file."""
    out: Path
    """Folder to write."""
    method: Literal["catseg", "san"] = "catseg"
    """Whose checkpoint it is."""
    names: tuple[str, ...] = ("coco_stuff_171",)
    """Classes of its training: words, a text file, or a packaged vocabulary."""
    crop: int | None = None
    """Side of its training crops, in pixels; the published one if not given."""


def segment_import(words: Sequence[str]) -> int:
    """Writes the folder and says where."""
    options = tyro.cli(ImportOptions, args=words, prog="clipself segment import")
    from clipself.segmentation.imported import import_segmenter
    from clipself.text.names import parse_names

    names = parse_names(options.names).names
    folder = import_segmenter(options.weights, options.out, method=options.method, names=names, crop=options.crop)
    print(f"{folder}: {len(names)} classes")
    return 0


def images_first(words: Sequence[str]) -> list[str]:
    """The old `--images A B` as positional words."""
    words = list(words)
    if "--images" not in words:
        return words
    warn_renamed("--images", "written without a flag")
    start = words.index("--images")
    stop = next((place for place in range(start + 1, len(words)) if words[place].startswith("--")), len(words))
    return [*words[start + 1 : stop], *words[:start], *words[stop:]]


def rename_flags(kind: type[Any], words: Sequence[str]) -> list[str]:
    """The words with today's flags in place of old ones, each with a warning."""
    renamed = []
    for word in words:
        flag, equals, value = word.partition("=")
        field = flag.removeprefix("--").removeprefix("no-").replace("-", "_")
        new = FIELDS.get(kind.__name__, {}).get(field) if flag.startswith("--") else None
        if new is not None:
            outer, _, inner = new.replace("_", "-").rpartition(".")
            off = "no-" if flag.startswith("--no-") else ""
            spelt = f"--{outer}.{off}{inner}" if outer else f"--{off}{inner}"
            warn_renamed(flag, spelt)
            flag = spelt
        renamed.append(f"{flag}{equals}{value}")
    return renamed
