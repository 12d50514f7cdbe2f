"""`clipself panoptic train`, `evaluate`, `predict` and `import`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from clipself.cli.train import read_run, say
from clipself.panoptic.config import PanopticEvaluateConfig, PanopticPredictConfig, PanopticTrainConfig
from clipself.panoptic.recipes import PANOPTIC_RECIPES
from clipself.renamed import FIELDS, warn_renamed


def panoptic_train(words: Sequence[str]) -> int:
    """Reads `--recipe` first: it sets the defaults that all other options replace."""
    config = read_run(
        PanopticTrainConfig, PANOPTIC_RECIPES, new_flags(PanopticTrainConfig, words), command="panoptic train",
        about="Trains a mask generator of our own, FC-CLIP's decoders on a frozen CLIP.",
    )  # fmt: skip
    from clipself.panoptic.train import train_panoptic

    return say(train_panoptic(config))


def panoptic_evaluate(words: Sequence[str]) -> int:
    """Prints the table; writes JSON, predictions and pictures where `--out` says."""
    words = new_flags(PanopticEvaluateConfig, words)
    config = tyro.cli(PanopticEvaluateConfig, args=words, prog="clipself panoptic evaluate")
    from clipself.panoptic.evaluate import evaluate_panoptic

    evaluate_panoptic(config)
    return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictOptions(PanopticPredictConfig):
    """Segments pictures by names given here; writes panoptic PNGs, JSON and drawings."""

    images: tyro.conf.Positional[tuple[Path, ...]]
    """Picture files or folders of them."""


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


def without_flag(words: list[str], flag: str) -> list[str]:
    """Values that need no flag any more, moved to the front where somebody gave them one."""
    if flag not in words:
        return words
    start = words.index(flag)
    end = next((place for place in range(start + 1, len(words)) if words[place].startswith("--")), len(words))
    return words[start + 1 : end] + words[:start] + words[end:]


def panoptic_predict(words: Sequence[str]) -> int:
    """Says what was written."""
    words = without_flag(new_flags(PanopticPredictConfig, words), "--images")
    config = tyro.cli(PredictOptions, args=words, prog="clipself panoptic predict")
    from clipself.panoptic.predict import predict_panoptic

    print(predict_panoptic(config).to_table())
    return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportOptions:
    """Writes a released FC-CLIP checkpoint as a folder of masks and their CLIP."""

    weights: Path
    """The released file."""
    out: Path
    """Folder to write."""
    model: str = "RN50-quickgelu"
    """open_clip name of the CLIP inside; the releases on OpenAI's ResNets can be read."""
    image_size: int = 1024
    """Longest side of the input, in pixels."""


def panoptic_import(words: Sequence[str]) -> int:
    """Writes the folder and says where."""
    options = tyro.cli(ImportOptions, args=words, prog="clipself panoptic import")
    from clipself.panoptic.imported import import_fcclip

    print(import_fcclip(options.weights, options.out, model=options.model, image_size=options.image_size))
    return 0
