"""Every choice in a setting is a row of its table, in all settings of all commands."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, Final, Literal, get_args, get_origin

import pytest

from clipself.cli.commands import COMMANDS, find
from clipself.cli.completion import SHELLS
from clipself.data.coco.splits import SPLITS
from clipself.data.distill import REGIONS
from clipself.data.labels.formats import LABEL_FORMATS
from clipself.detection.detectors.detic.c4_trunk import BLOCKS
from clipself.detection.detectors.detic.heads import HEADS
from clipself.detection.detectors.owl.heads import BOX_BIASES, GELUS, MERGES
from clipself.detection.detectors.rovit.model import VITS
from clipself.detection.detectors.table import DETECTORS
from clipself.detection.detectors.trunks import TRUNKS
from clipself.detection.detectors.two_stage.fusion import FUSIONS
from clipself.detection.recipes import DETECT_RECIPES
from clipself.distillation.methods import METHODS
from clipself.engine.fields import kinds_of
from clipself.engine.optim import OPTIMIZERS, SCHEDULES
from clipself.engine.precision import DTYPES
from clipself.engine.trackers import TRACKERS
from clipself.layers.norms import NORMS
from clipself.losses import IMAGE_LABEL_RULES
from clipself.losses.contrast import CONTRASTS
from clipself.losses.masked_features import COUNTED
from clipself.panoptic.generators.learned import LEARNED
from clipself.panoptic.imported import IMPORTS
from clipself.panoptic.judge import WAYS
from clipself.panoptic.mixture import MIXTURES
from clipself.panoptic.supervision import SUPERVISIONS
from clipself.segmentation.catseg.aggregator import CLASS_ATTENTIONS
from clipself.segmentation.catseg.appearance import APPEARANCES
from clipself.segmentation.segmenters import SEGMENTERS
from clipself.workflows.exporting.targets import TARGETS
from clipself.workflows.labelling.labellers import LABELLERS
from clipself.workflows.reproduction.rows import TABLES as REPRODUCED

TABLES: Final[Mapping[str, Collection[Any]]] = {
    "tables": REPRODUCED,
    "contrast": CONTRASTS,
    "counted": COUNTED,
    "box_bias": BOX_BIASES,
    "class_attention": CLASS_ATTENTIONS,
    "by": WAYS,
    "depth": BLOCKS,
    "fusion": FUSIONS,
    "gelu": GELUS,
    "merge": MERGES,
    "heads": HEADS,
    "formats": LABEL_FORMATS,
    "image_label_loss": [name for name, rule in IMAGE_LABEL_RULES.items() if rule is not None],  # what needs no branch
    "method": [name for name, row in SEGMENTERS.items() if row.read is not None],  # what can be imported
    "norm": NORMS,
    "optimizer": OPTIMIZERS,
    "precision": ["auto", *DTYPES],
    "recipe": [  # what is released
        name
        for name, recipe in DETECT_RECIPES.items()
        if not name.startswith("small") and DETECTORS[recipe().detector.method].published is not None
    ],
    "regions": REGIONS,
    "schedule": SCHEDULES,
    "scores": MIXTURES,
    "shell": SHELLS,
    "split": SPLITS,
    "track": TRACKERS,
    "to": TARGETS,
    "trunk": TRUNKS,
    "vit": VITS,
    "supervision": SUPERVISIONS,
    "task": ["auto", *LABELLERS],
    "system": IMPORTS,
}
"""Setting -> the table that it chooses from."""

ALONE: Final[Mapping[str, Collection[Any]]] = {
    "appearance": ["clip", *APPEARANCES],
    "background": ["text", "learned"],
    "class_loss": ["sigmoid", "softmax"],
    "colours": ["novel", "class"],
    "features": ["tokens", "dense"],
    "conditions": ["image", "step"],
    "context": ["queries", "queries+keys"],
    "ignored": ["masked", "negative"],
    "metric": ["auto", "coco", "lvis"],
    "mode": ["sliding", "whole"],
    "part": ["train", "val"],
    "pixels": ["imagenet", "clip"],
    "release": [1, 2],
    "resume": ["auto"],
    "synonyms": ["first", "mean"],
    "towers": ["none", "image", "both"],
    "padding": ["black", "mean"],
    "train_clip": ["queries-values", "visual-attention", "none"],
}
"""Choices between two or three ways of one function, which need no table."""


def settings_of_everything() -> list[type]:
    """Every class of settings, nested ones and those of each method too."""
    found: list[type] = []
    waiting = [find(command.settings) for command in COMMANDS.values()]
    waiting += [row.settings for row in DETECTORS.values()] + [row.settings for row in SEGMENTERS.values()]
    waiting += [row.settings for row in LEARNED.values()] + [row.settings for row in METHODS.values()]
    while waiting:
        kind = waiting.pop()
        if kind not in found:
            found.append(kind)
            waiting += [leaf for part in kinds_of(kind).values() for leaf in leaves(part) if is_dataclass(leaf)]
    return sorted(found, key=lambda kind: kind.__name__)


def leaves(kind: Any) -> Iterator[Any]:
    """A Literal whole, and everything else without its unions and tuples."""
    if get_origin(kind) is Literal or not get_args(kind):
        yield kind
    else:
        for part in get_args(kind):
            yield from leaves(part)


def choices_of(kind: type) -> dict[str, tuple[Any, ...]]:
    return {
        name: get_args(leaf)
        for name, annotation in kinds_of(kind).items()
        for leaf in leaves(annotation)
        if get_origin(leaf) is Literal
    }


def test_the_walk_reaches_every_family() -> None:
    names = {kind.__name__ for kind in settings_of_everything()}
    assert names >= {"DistillConfig", "CatSegSettings", "SanSettings", "JudgeSettings", "BaronSettings", "SplitOptions"}


@pytest.mark.parametrize("kind", settings_of_everything(), ids=lambda kind: kind.__name__)
def test_choices_are_the_rows_of_their_table(kind: type) -> None:
    for name, choices in choices_of(kind).items():
        assert name in TABLES or name in ALONE, f"{kind.__name__}.{name} chooses, but from no table"
        table = TABLES.get(f"{kind.__name__}.{name}", TABLES.get(name, ALONE.get(name, ())))
        assert set(choices) == set(table), f"{kind.__name__}.{name}"


def test_no_table_is_listed_for_nothing() -> None:
    used = {name for kind in settings_of_everything() for name in choices_of(kind)}
    assert used == {*(name.split(".")[-1] for name in TABLES), *ALONE}
