"""`clipself detect train | evaluate | predict | split` and `clipself proposals`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tyro

from clipself.cli.train import read_run, say, take_option
from clipself.detection.config import (
    DetectionEvaluateConfig,
    DetectionPredictConfig,
    DetectionTrainConfig,
    ProposalsConfig,
)
from clipself.detection.detectors.table import change_method
from clipself.detection.recipes import DETECT_RECIPES, detect_recipe
from clipself.renamed import FIELDS, warn_renamed

Recipes = Mapping[str, Callable[[], DetectionTrainConfig]]


def detect_train(words: Sequence[str]) -> int:
    """Reads `--recipe` and `--detector.method` first: they set the defaults that all other options replace."""
    rest, method = take_option(list(words), "--detector.method")
    config = read_run(
        DetectionTrainConfig, with_method(DETECT_RECIPES, method), rest, command="detect train",
        about="Trains an open-vocabulary detector on a frozen CLIP, with boxes of base classes only.",
    )  # fmt: skip
    from clipself.detection.train import train_detector

    return say(train_detector(config))


def with_method(recipes: Recipes, method: str | None) -> Recipes:
    """The recipes for another detector than their own, with all values that both know."""
    if method is None:
        return recipes

    def change(make: Callable[[], DetectionTrainConfig]) -> DetectionTrainConfig:
        return replace(made := make(), detector=change_method(made.detector, method))

    return {name: partial(change, make) for name, make in recipes.items()}


def new_flags(kind: type, words: Sequence[str]) -> list[str]:
    """Old flags as new ones, each with a warning."""
    table = {f"--{old.replace('_', '-')}": f"--{new.replace('_', '-')}" for old, new in FIELDS[kind.__name__].items()}
    renewed = []
    for word in words:
        flag, sign, value = word.partition("=")
        if flag in table:
            warn_renamed(flag, table[flag])
        renewed.append(f"{table.get(flag, flag)}{sign}{value}")
    return renewed


def detect_evaluate(words: Sequence[str]) -> int:
    """Prints the table; writes results and JSON where `--out` says."""
    config = tyro.cli(
        DetectionEvaluateConfig,
        args=new_flags(DetectionEvaluateConfig, words),
        prog="clipself detect evaluate",
        description="AP50 of novel, base and all classes (COCO files), or federated APr, APc, APf (LVIS files).",
    )
    from clipself.detection.evaluate import evaluate_detector

    evaluate_detector(config)
    return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictOptions(DetectionPredictConfig):
    """As `DetectionPredictConfig`, with the images without a flag."""

    images: tyro.conf.Positional[tuple[Path, ...]]
    """Image files or folders of them."""


def detect_predict(words: Sequence[str]) -> int:
    """Writes annotated pictures and COCO files."""
    config = tyro.cli(
        PredictOptions,
        args=new_flags(DetectionPredictConfig, words),
        prog="clipself detect predict",
        description='Finds named things: clipself detect predict photos/ --checkpoint runs/mine --names "a dog" kite',
    )
    from clipself.detection.predict import predict_images, summarize

    result = predict_images(config)
    print(f"{summarize(result.found)}\n{result.summary}")
    return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitOptions:
    """Writes the open-vocabulary split of an official instances file."""

    annotations: Path
    """Official instances JSON."""
    out: Path
    """File to write."""
    part: Literal["train", "val"] = "train"
    """Base boxes only, or base and novel ones."""
    split: Literal["ov-coco", "ov-lvis"] | None = "ov-coco"
    """Published split; none with lists of one's own."""
    base: Path | None = None
    """Text file of base names."""
    novel: Path | None = None
    """Text file of novel names."""


def detect_split(words: Sequence[str]) -> int:
    """Writes the file and says what is in it."""
    options = tyro.cli(SplitOptions, args=words, prog="clipself detect split")
    from clipself.data.ov_split import write_split

    own = options.base is not None or options.novel is not None
    path, classes = write_split(
        options.annotations, options.out, train=options.part == "train", split=None if own else options.split,
        base=options.base, novel=options.novel,
    )  # fmt: skip
    print(f"{path}: {len(classes.base)} base and {len(classes.novel)} novel classes")
    return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportOptions:
    """Writes a released F-ViT checkpoint as a detector folder."""

    weights: Path
    """The released file."""
    out: Path
    """Folder to write."""
    recipe: Literal["ov-coco-b16", "ov-coco-l14", "ov-lvis-b16", "ov-lvis-l14"] = "ov-coco-b16"
    """Configuration that the file belongs to."""
    pretrained: str | None = None
    """Tag or file of the backbone's release, for its text tower; the recipe's if not given."""
    text_from: str | None = None
    """Release of the text tower, where that file holds none."""


def detect_import(words: Sequence[str]) -> int:
    """Writes the folder and says where."""
    options = tyro.cli(ImportOptions, args=words, prog="clipself detect import")
    from clipself.data.detection import ClassSplit
    from clipself.detection.detectors.two_stage.published import import_published
    from clipself.text.vocabulary import load_vocabulary

    config = detect_recipe(options.recipe)
    settings: Any = config.detector
    vocab = load_vocabulary("ov_coco_65" if config.split == "ov-coco" else "lvis_v1_1203")
    classes = ClassSplit(ids=vocab.ids, names=vocab.names, is_base=tuple(not novel for novel in vocab.is_novel))
    folder = import_published(
        options.weights, options.out, model=config.model, pretrained=options.pretrained or config.pretrained,
        settings=settings, classes=classes, text_from=options.text_from,
    )  # fmt: skip
    print(f"{folder}: {len(classes.base)} base and {len(classes.novel)} novel classes")
    return 0


def proposals(words: Sequence[str]) -> int:
    """Writes proposals and says how to distil on them."""
    config = tyro.cli(
        ProposalsConfig,
        args=new_flags(ProposalsConfig, words),
        prog="clipself proposals",
        description="Class-free boxes of a folder of images by a trained detector's proposal network.",
    )
    from clipself.detection.proposals import write_proposals

    boxes, images = write_proposals(config)
    print(
        f"{boxes}\nnext: clipself distill --regions proposals --data {config.images} --annotations {images} "
        f"--proposals {boxes} --out RUN"
    )
    return 0
