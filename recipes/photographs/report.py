"""One report of everything that was measured: JSON, Markdown, and a page with pictures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from carry import MEASURED_ON, SIDE
from curve import TITLES
from PIL import Image

from clipself import load_clip
from clipself.data.labelled import LabelledImages, open_labelled
from clipself.files import write_json, write_text
from clipself.viz.report import ReportPage
from clipself.workflows.show import Column, kmeans_row, query_rows, save_picture
from data import Photographs

PICTURES: Final = 8
"""Photographs that are drawn: those whose largest thing fills about a third of them."""
LEAST: Final = 40
"""Photographs among which they are looked for."""
SCORES: Final = {
    "miou": "mIoU, no training", "pq": "PQ, true masks", "kept": "crops kept", "catseg": "mIoU, CAT-Seg",
    "novel": "AP50 novel", "base": "AP50 base",
}  # fmt: skip
Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]


def write_report(photographs: Photographs, models: Mapping[str, str], chosen: str | None, out: Path) -> Path:
    """Writes `report.json`, `report.md` and `index.html` of what there is; missing measures are dashes.

    Args:
        photographs: The data.
        models: Title -> model, the original first.
        chosen: Run that is drawn beside the original.
        out: Folder of the stages.
    """
    held = gather(list(models), out)
    write_json(out / "report.json", {"chosen": chosen, "models": dict(models), **held})
    tables = tables_of(held, list(models))
    write_text(out / "report.md", "\n\n".join(markdown(*table) for table in tables) + "\n")
    page = ReportPage(
        "What self-distillation did on photographs",
        lead=f"COCO's validation half, which nothing was chosen by; dense maps at {SIDE} px; chosen: {chosen}.",
    )
    for title, head, rows in tables:
        page.heading(title)
        page.table(head, rows)
    if (out / "curve.png").exists():
        page.heading("On the way, on photographs held back of the training half")
        page.picture(out / "curve.png", caption="percent over steps")
    refined = [] if chosen is None else [(chosen, models[chosen])]
    columns = [
        Column(title=title, clip=load_clip(model)) for title, model in [("original", models["original"]), *refined]
    ]
    data = open_labelled(photographs.annotations(f"panoptic_{MEASURED_ON}"), photographs.images(MEASURED_ON))
    asked = pictures_of(data)
    page.heading("What belongs together")
    for place, (picture, name) in enumerate(asked):
        row = kmeans_row(picture, columns, image_size=SIDE)
        save_picture(row, out / "pictures" / f"kmeans-{place}.png")
        page.picture(row, caption=f"K-means groups of a photograph with {name}")
    page.heading("Where is it?")
    said = [(picture, f"a {name}") for picture, name in asked]
    for place, ((_, text), row) in enumerate(zip(said, query_rows(said, columns, image_size=SIDE), strict=True)):
        save_picture(row, out / "pictures" / f"query-{place}.png")
        page.picture(row, caption=f'"{text}"; one scale for all')
    return page.write(out / "index.html")


def gather(titles: Sequence[str], out: Path) -> dict[str, Any]:
    """All figures that the stages have left: labels -> title -> measure -> percent."""
    regions = {
        labels: {title: _scores(out / "regions" / f"{labels}-{title}.json") for title in titles}
        for labels in ("instances", "panoptic")
    }
    carried: dict[str, dict[str, Any]] = {title: {} for title in titles}
    table = out / "tables/comparison.json"
    rows = json.loads(table.read_text(encoding="utf-8"))["rows"] if table.exists() else []
    for title, row in zip(titles, rows, strict=False):
        carried[title] = {name: row["scores"].get(name) for name in ("miou", "pq", "kept")}
    for title in titles:
        segmenter = _scores(out / "segmenters" / title / "scores.json")
        detector = _scores(out / "detectors" / title / "ap.json")
        carried[title] |= {
            "catseg": segmenter.get("mIoU"), "novel": detector.get("AP50 novel"), "base": detector.get("AP50 base"),
        }  # fmt: skip
    return {**regions, "carried": carried}


def tables_of(held: Mapping[str, Any], titles: Sequence[str]) -> list[Table]:
    """Titles, heads and rows of all tables."""
    named = {
        "instances": "Official boxes, COCO's 80 names", "panoptic": "Panoptic labels, 133 names",
        "carried": "Carried on, panoptic photographs and official boxes",
    }  # fmt: skip
    tables = []
    for part, title in named.items():
        columns = SCORES if part == "carried" else TITLES
        columns = {
            name: said for name, said in columns.items() if any(held[part][one].get(name) is not None for one in titles)
        }
        rows = [[one, *(_cell(held[part][one].get(name)) for name in columns)] for one in titles]
        tables.append((title, ["model", *columns.values()], rows))
    return tables


def markdown(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """One table."""
    lines = [head, ["---"] * len(head), *rows]
    return f"### {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def pictures_of(data: LabelledImages) -> list[tuple[Image.Image, str]]:
    """Photographs and the name of the largest thing in each."""
    found = list[tuple[float, Image.Image, str]]()
    for index in range(min(len(data), LEAST)):
        held = data.read(index)
        sides = held.boxes[:, 2:] - held.boxes[:, :2]
        areas = torch.where(held.is_thing_R, sides[:, 0] * sides[:, 1], torch.zeros(len(sides)))
        if len(areas) and float(areas.max()) > 0:
            largest = int(areas.argmax())
            share = float(areas[largest]) / (held.image.height * held.image.width)
            found.append((abs(share - 1 / 3), held.image, data.class_names[int(held.labels_R[largest])]))
    found.sort(key=lambda one: one[0])
    return [(picture, name) for _, picture, name in found[:PICTURES]]


def _scores(path: Path) -> dict[str, Any]:
    held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["scores"] if path.exists() else {}
    return held


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
