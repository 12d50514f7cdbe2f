"""Table 4: open-vocabulary semantic segmentation."""

from collections.abc import Mapping
from typing import Any, Final

from clipself.workflows.reproduction.row import From, Row, Step, Table

SETS: Final = {"ade20k-150": "ADE-150", "ade20k-847": "ADE-847", "pascal-context-59": "PC-59"}
"""Archive -> what the paper calls it."""

BESIDE: Final = "not in the paper's table: CAT-Seg's second release, whose files can be read"


def _rows(name: str, title: str, checkpoint: From, *, note: str = "", **more: Any) -> tuple[Row, ...]:
    """A row a set."""
    return tuple(
        Row(
            name=f"table4/{name}/{archive}",
            title=f"{title}, {said}",
            measure=Step(
                command="segment evaluate",
                settings={"checkpoint": (checkpoint,), "annotations": From("made", archive), **more},
            ),
            note=note,
        )
        for archive, said in SETS.items()
    )


TABLE4: Final = Table(
    title="Semantic segmentation, trained on COCO-Stuff",
    columns={"miou": "mIoU", "macc": "mAcc"},
    rows=(
        *_rows("san-b16", "SAN, ViT-B/16", From("made", "san-b16")),
        *_rows("catseg-b16", "CAT-Seg, ViT-B/16", From("weights", "catseg-b16")),
        *_rows("catseg-b16-clipself", "CAT-Seg, ViT-B/16, CLIPSelf", From("weights", "catseg-b16-clipself")),
        *_rows("catseg2-b16", "CAT-Seg v2, ViT-B/16", From("made", "catseg2-b16"), note=BESIDE, class_cap=256),
        *_rows("san-l14", "SAN, ViT-L/14", From("made", "san-l14")),
        *_rows("catseg-l14", "CAT-Seg, ViT-L/14", From("weights", "catseg-l14")),
        *_rows("catseg-l14-clipself", "CAT-Seg, ViT-L/14, CLIPSelf", From("weights", "catseg-l14-clipself")),
        *_rows("catseg2-l14", "CAT-Seg v2, ViT-L/14", From("made", "catseg2-l14"), note=BESIDE, class_cap=256),
    ),
)


def _import(name: str, method: str) -> Step:
    return Step(command="segment import", settings={"weights": From("weights", name), "method": method})


def _prepare(archive: str) -> Step:
    return Step(command="data prepare", settings={"archive": archive, "root": From("data", archive)})


MADE4: Final[Mapping[str, Step]] = {
    **{archive: _prepare(archive) for archive in SETS},
    "catseg2-b16": _import("catseg2-b16", "catseg"),
    "catseg2-l14": _import("catseg2-l14", "catseg"),
    "san-b16": _import("san-b16", "san"),
    "san-l14": _import("san-l14", "san"),
}
"""Prepared label maps and imported segmenters."""
