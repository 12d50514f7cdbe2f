"""The published figures, all in this one file: row -> score -> figure, and where each was read.

A score that is not here could not be read anywhere when this was written: the report shows ours alone. Fill it in here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

READ: Final = "read"
QUOTED: Final = "quoted"
RECALLED: Final = "recalled"

SOURCES: Final[Mapping[str, str]] = {
    READ: "read in the release: its README, model zoo or logs",
    QUOTED: "read in other publications, which quote the paper",
    RECALLED: "recalled from the paper and not read again; look it up before you quote it",
}
"""Where a figure was read; those of the last kind are marked in every report."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One published number.

    Attributes:
        value: In percent.
        source: Row of `SOURCES`.
    """

    value: float
    source: str = READ


def _all(source: str, **values: float) -> dict[str, Figure]:
    return {name: Figure(value=value, source=source) for name, value in values.items()}


def _regions(source: str, *values: float) -> dict[str, Figure]:
    """Top-1 and top-5 of boxes, masks of things, masks of stuff, as the paper lists them."""
    names = ("boxes", "boxes5", "things", "things5", "stuff", "stuff5")
    return _all(source, **dict(zip(names, values, strict=True)))


def _pixels(source: str, miou: float, macc: float) -> dict[str, Figure]:
    return _all(source, miou=miou, macc=macc)


PUBLISHED: Final[Mapping[str, Mapping[str, Figure]]] = {
    # Table 2: mean class accuracy of regions, COCO panoptic val2017
    "table2/eva-b16": _regions(RECALLED, 18.2, 33.2, 20.6, 36.5, 18.4, 43.5),
    "table2/eva-b16-patches": _regions(RECALLED, 72.1, 91.3, 74.4, 91.8, 46.8, 80.2),
    # Table 3a: AP50, OV-COCO
    "table3a/fvit-b16": _all(RECALLED, novel=17.5),
    "table3a/fvit-b16-regionclip": _all(READ, novel=34.4),
    "table3a/fvit-b16-patches": _all(READ, novel=33.6),
    "table3a/fvit-b16-proposals": _all(READ, novel=37.6),
    "table3a/fvit-l14": _all(RECALLED, novel=24.7),
    "table3a/fvit-l14-regionclip": _all(READ, novel=38.7),
    "table3a/fvit-l14-patches": _all(READ, novel=38.4),
    "table3a/fvit-l14-proposals": _all(READ, novel=44.3),
    "table3a/vild": _all(QUOTED, novel=27.6),
    "table3a/detic": _all(READ, novel=27.8, all=45.0),
    "table3a/fvlm": _all(RECALLED, novel=28.0),
    "table3a/ovdetr": _all(READ, novel=29.4, base=61.0, all=52.7),
    "table3a/promptovd": _all(RECALLED, novel=30.6),
    "table3a/rovit": _all(QUOTED, novel=33.0),
    "table3a/baron": _all(READ, novel=34.0),
    "table3a/cfm-vit": _all(QUOTED, novel=34.1),
    "table3a/cora-rn50": _all(READ, novel=35.1, all=35.4),
    "table3a/cora-rn50x4": _all(READ, novel=41.7, all=43.8),
    "table3a/cora-plus": _all(QUOTED, novel=43.1),
    # Table 3b: mask AP, OV-LVIS
    "table3b/fvit-b16": _all(RECALLED, rare=11.5),
    "table3b/fvit-b16-patches": _all(READ, rare=25.3),
    "table3b/fvit-l14": _all(RECALLED, rare=24.2),
    "table3b/fvit-l14-patches": _all(READ, rare=34.9),
    "table3b/ovdetr": _all(QUOTED, rare=17.4),
    "table3b/fvlm-rn50": _all(RECALLED, rare=18.6),
    "table3b/baron": _all(QUOTED, rare=22.6),
    "table3b/promptovd": _all(RECALLED, rare=23.1),
    "table3b/detic-r50": _all(READ, rare=24.9, ap=32.4),
    "table3b/owl-vit": _all(QUOTED, rare=25.6),
    "table3b/cora-plus": _all(QUOTED, rare=28.1),
    "table3b/rovit": _all(RECALLED, rare=32.1),
    "table3b/fvlm-rn50x64": _all(QUOTED, rare=32.8),
    "table3b/detic-swin-b": _all(READ, rare=33.8, ap=40.7),
    "table3b/cfm-vit": _all(QUOTED, rare=33.9),
    # Table 4: semantic segmentation, by set
    "table4/catseg-b16/ade20k-150": _pixels(RECALLED, 27.2, 41.2),
    "table4/catseg-b16/ade20k-847": _pixels(RECALLED, 8.4, 16.6),
    "table4/catseg-b16/pascal-context-59": _pixels(RECALLED, 57.5, 74.0),
    "table4/catseg-b16-clipself/ade20k-150": _pixels(RECALLED, 29.0, 46.0),
    "table4/catseg-b16-clipself/ade20k-847": _pixels(RECALLED, 9.3, 20.1),
    "table4/catseg-b16-clipself/pascal-context-59": _pixels(RECALLED, 58.0, 75.3),
    "table4/catseg-l14/ade20k-150": _pixels(RECALLED, 31.5, 46.2),
    "table4/catseg-l14/ade20k-847": _pixels(RECALLED, 10.8, 20.5),
    "table4/catseg-l14/pascal-context-59": _pixels(RECALLED, 62.0, 78.3),
    "table4/catseg-l14-clipself/ade20k-150": _all(QUOTED, miou=34.5) | _all(RECALLED, macc=54.4),
    "table4/catseg-l14-clipself/ade20k-847": _all(QUOTED, miou=12.4) | _all(RECALLED, macc=25.4),
    "table4/catseg-l14-clipself/pascal-context-59": _all(QUOTED, miou=62.3) | _all(RECALLED, macc=80.7),
    "table4/catseg2-b16/ade20k-150": _all(READ, miou=31.8),
    "table4/catseg2-b16/ade20k-847": _all(READ, miou=12.0),
    "table4/catseg2-b16/pascal-context-59": _all(READ, miou=57.5),
    "table4/catseg2-l14/ade20k-150": _all(READ, miou=37.9),
    "table4/catseg2-l14/ade20k-847": _all(READ, miou=16.0),
    "table4/catseg2-l14/pascal-context-59": _all(READ, miou=63.3),
    "table4/san-b16/ade20k-150": _pixels(READ, 27.6, 45.6),
    "table4/san-b16/ade20k-847": _pixels(READ, 10.2, 21.2),
    "table4/san-b16/pascal-context-59": _pixels(READ, 54.1, 73.0),
    "table4/san-l14/ade20k-150": _pixels(READ, 31.9, 50.7),
    "table4/san-l14/ade20k-847": _pixels(READ, 13.0, 25.4),
    "table4/san-l14/pascal-context-59": _pixels(READ, 57.5, 77.6),
    # Table 5: panoptic segmentation, ADE20K
    "table5/odise": _all(READ, pq=22.6, map=14.4, miou=29.9),
    "table5/odise-clipself": _all(QUOTED, pq=23.7) | _all(RECALLED, map=13.6, miou=30.1),
}
"""Row of `ROWS` -> score -> figure."""
