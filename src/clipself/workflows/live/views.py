"""What each tab of the page draws: questions in, pictures and a line of words out. Knows no page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from PIL import Image

from clipself.detection.predict import annotate, summarize
from clipself.segmentation.predict import shares
from clipself.text.vocabulary import Vocabulary
from clipself.viz.alike import alike_panel
from clipself.viz.heatmap import common_scale, draw_bar, paint_heat
from clipself.viz.kmeans import cluster_map, draw_kmeans, match_groups, paint_groups
from clipself.viz.panels import lay_out, stack
from clipself.viz.panoptic_maps import paint_segments
from clipself.viz.segments import draw_legend, draw_segments
from clipself.workflows.live.studio import Studio, read_typed
from clipself.workflows.show import Column

GROUPS: Final = "K-means groups"
"""What may be compared beside the names."""
MOST_HEATS: Final = 6
"""Names that get a heat map."""
MOST_NAMED: Final = 24
"""Names in a legend."""
NO_MIXING: Final = {"qk": "ordinary attention", "value": "values alone"}
"""Readout -> title of the two sides, where there is no refined model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What stands on the page.

    Attributes:
        picture: File of the picture; None where there is none.
        names: As they were typed.
        stuff: Those of them that are uncountable, as they were typed.
        clusters: Groups of the dense map.
        threshold: Least score of a detection.
        compared: `GROUPS`, or a name whose heat map is drawn on both sides.
    """

    picture: str | None
    names: str = ""
    stuff: str = ""
    clusters: int = 6
    threshold: float = 0.2
    compared: str = GROUPS

    def vocabulary(self) -> Vocabulary:
        """The names; errors as of `read_typed`."""
        return read_typed(self.names, self.stuff)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a tab shows.

    Attributes:
        parts: Pictures, pairs of pictures or JSON, in the order of the tab's places.
        said: A line about it.
        choices: What may be compared now, where the tab compares.
    """

    parts: tuple[Any, ...]
    said: str = ""
    choices: tuple[str, ...] = ()


def show_alike(studio: Studio, asked: Question) -> Answer:
    """What is alike to any patch, and how near the patches are to each name."""
    image = _picture(studio, asked)
    panel = alike_panel(image, studio.dense(image))
    if not asked.names.strip():
        return Answer(parts=(panel, None), said="point at the picture; with names, their heat maps are below")
    names = [name.split(",")[0] for name in read_typed(asked.names).names]
    shown = names[:MOST_HEATS]
    said = f"the first {MOST_HEATS} of {len(names)} names" if len(names) > MOST_HEATS else "point at the picture"
    return Answer(parts=(panel, draw_heats(image, shown, studio.near(image, shown))), said=said)


def draw_heats(image: Image.Image, names: Sequence[str], maps: Sequence[tuple[str, Any]]) -> Image.Image:
    """A heat map for each name, a row for each model, on one scale."""
    low, high = common_scale(near_KYX for _, near_KYX in maps)
    rows = []
    for title, near_KYX in maps:
        known = f"{title}: " if len(maps) > 1 else ""
        heats = [paint_heat(near_YX, image, low=low, high=high) for near_YX in near_KYX]
        strip = lay_out([[(known + name, heat) for name, heat in zip(names, heats, strict=True)]])
        bar = draw_bar((low, high), height=strip.height)
        whole = Image.new("RGB", (strip.width + bar.width, strip.height), "white")
        whole.paste(strip, (0, 0))
        whole.paste(bar, (strip.width, 0))
        rows.append(whole)
    return stack(rows)


def show_groups(studio: Studio, asked: Question) -> Answer:
    """K-means groups of each model's dense map."""
    image = _picture(studio, asked)
    maps = studio.dense(image)
    rows, cols = maps[0][1].shape[1:]
    drawn = draw_kmeans(image, maps, clusters=asked.clusters)
    return Answer(parts=(drawn,), said=f"{asked.clusters} groups of {rows} x {cols} patches")


def show_boxes(studio: Studio, asked: Question) -> Answer:
    """Boxes of things that are named."""
    image, typed = _picture(studio, asked), asked.vocabulary()
    things = [name for name, is_thing in zip(typed.names, typed.is_thing, strict=True) if is_thing]
    names = things or typed.names
    found = studio.detect(image, names, threshold=asked.threshold)
    said = summarize([found]) if len(found) else "nothing found; try a lower threshold or other names"
    return Answer(parts=(annotate(image, found),), said=said)


def show_segments(studio: Studio, asked: Question) -> Answer:
    """A name for every pixel."""
    image, names = _picture(studio, asked), asked.vocabulary().names
    found = studio.segment(image, names)
    there = shares(found)
    said = ", ".join(f"{row['name'].split(',')[0]} {row['share']:.0%}" for row in there)
    drawn = draw_segments(image, found.labels_HW, classes=len(names))
    legend = draw_legend([row["index"] for row in there[:MOST_NAMED]], names, width=drawn.width)
    return Answer(parts=(stack([drawn, legend]),), said=said)


def show_panoptic(studio: Studio, asked: Question) -> Answer:
    """Things and stuff, each with its mask."""
    image, names = _picture(studio, asked), asked.vocabulary()
    found = studio.segment_all(image, names)
    labels = {segment.id: segment.label for segment in found.segments}
    drawn = paint_segments(image, found.ids_HW.cpu().numpy(), labels, found.names)
    said = ", ".join(f"{found.names[one.label].split(',')[0]} {one.score:.2f}" for one in found.segments)
    return Answer(parts=(drawn,), said=said or "no segment; try other names")


def show_compared(studio: Studio, asked: Question) -> Answer:
    """Original and refined model, one on each side of a slider; without one, two readouts of the same."""
    image, sides = _picture(studio, asked), sides_of(studio)
    names = [name.split(",")[0] for name in read_typed(asked.names).names] if asked.names.strip() else []
    chosen = asked.compared if asked.compared in names else GROUPS
    if chosen == GROUPS:
        first, last = (cluster_map(dense_DYX, clusters=asked.clusters) for _, dense_DYX in studio.dense(image, sides))
        first = match_groups(first, last, clusters=asked.clusters) if first.shape == last.shape else first
        drawn = [Image.blend(image, paint_groups(groups, size=image.size), 0.75) for groups in (first, last)]
    else:
        maps = [near_KYX[0] for _, near_KYX in studio.near(image, [chosen], sides)]
        low, high = common_scale(maps)
        drawn = [paint_heat(near_YX, image, low=low, high=high) for near_YX in maps]
    said = " | ".join(column.title for column in sides)
    return Answer(parts=(tuple(drawn),), said=said, choices=(GROUPS, *names))


def sides_of(studio: Studio) -> tuple[Column, Column]:
    """What is compared: the original and the refined model, or, where there is one alone, two readouts of it."""
    if len(studio.columns) > 1:
        return studio.columns[0], studio.columns[-1]
    plain, values = (replace(studio.columns[0], title=title, readout=name) for name, title in NO_MIXING.items())
    return plain, values


def _picture(studio: Studio, asked: Question) -> Image.Image:
    if asked.picture is None:
        raise ValueError("there is no picture; upload one, take one, or choose one below")
    return studio.look(asked.picture)


View = Callable[[Studio, Question], Answer]

VIEWS: Final[Mapping[str, View]] = {
    "Similarity": show_alike,
    "K-means": show_groups,
    "Detection": show_boxes,
    "Segmentation": show_segments,
    "Panoptic": show_panoptic,
    "Raw | refined": show_compared,
}
"""Tab -> what it draws."""
