"""The page that the quickstart leaves: what refining did, in figures and in pictures that need none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image
from torch import Tensor

from clipself.data.photographs import load_photo
from clipself.data.scenes.draw import Scene, SceneMaker
from clipself.detection.detector import Detector
from clipself.detection.predict import annotate
from clipself.engine.log import read_metrics
from clipself.files import write_json
from clipself.regions.report import TITLES, RegionReport
from clipself.segmentation.training_free.segmenter import TrainingFree
from clipself.segmentation.training_free.settings import TrainingFreeSettings
from clipself.viz.bars import draw_comparison, draw_loss
from clipself.viz.panels import lay_out
from clipself.viz.report import ReportPage
from clipself.viz.segments import draw_panels
from clipself.workflows.show import Column, kmeans_row, query_rows, save_picture

SIDE: Final = 480
"""Longest side at which pictures are looked at, in pixels."""
SCENES: Final = (1, 5, 9)
"""Held-out scenes that are shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """What is asked of a packaged photograph.

    Attributes:
        asked: Phrase that is looked for.
        names: Names for every pixel; none where nothing is named.
    """

    asked: str
    names: tuple[str, ...] = ()


STORIES: Final = {
    "moose": Story(asked="a moose", names=("moose", "grass", "trees")),
    "windmill": Story(asked="a windmill", names=("windmill", "sky", "grass")),
    "coffee": Story(asked="a cup of coffee", names=("cup", "spoon", "wooden table")),
    "wall": Story(asked="a stone wall", names=("stone wall", "forest", "sky")),
    "panda": Story(asked="a panda", names=("panda", "rock", "tree")),
    "cat": Story(asked="a cat"),
    "raccoon": Story(asked="a raccoon"),
    "flower": Story(asked="a flower"),
    "rocket": Story(asked="a rocket"),
}
"""Packaged photograph -> its story."""
DETECTED: Final[Mapping[str, tuple[str, ...]]] = {
    "moose": ("moose",),
    "flower": ("flower",),
    "coffee": ("cup",),
    "panda": ("panda",),
}
"""Packaged photograph -> what the packaged detector looks for in it, one of each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A picture with what is asked of it, and the models that answer side by side."""

    name: str
    picture: Image.Image
    models: Sequence[Column]
    asked: str
    names: tuple[str, ...]


def write_report(
    out: Path,
    models: Sequence[Column],
    of_photographs: Sequence[Column],
    reports: Sequence[RegionReport],
    *,
    run: Path,
    minutes: float,
    next_steps: str,
) -> Path:
    """Draws everything and binds it into one page.

    Args:
        out: Folder of the page and its pictures.
        models: Whose dense maps of scenes are shown, the original first.
        of_photographs: Likewise of photographs.
        reports: Of the original and the refined model.
        run: Folder of the distillation.
        minutes: What all of it took.
        next_steps: Commands for what follows.
    """
    page = ReportPage(
        "What self-distillation did to a small CLIP",
        lead="No labels were used: the model's own embeddings of image crops taught its dense map (CLIPSelf).",
    )
    _add_scores(page, out, reports, minutes=minutes)
    page.heading("How the loss went")
    page.paragraph("1 - cosine between each region of the dense map and the teacher's embedding of its crop.")
    page.picture(draw_loss(read_metrics(run), path=out / "loss.png", term="distance"), caption="distance in every step")
    maker = SceneMaker(seed="held out/pictures")
    scenes = {f"scene-{index}": maker(index) for index in SCENES}
    photographs = [_of_photograph(name, story, of_photographs) for name, story in STORIES.items()]
    drawn = [_of_scene(name, scene, models) for name, scene in scenes.items()]
    shown = [*photographs, *drawn]
    page.heading("What it looks like")
    page.paragraph(
        "Scenes show the model above, before and after this run. Photographs show two packaged models: "
        "clipself-mini-photos, and clipself-mini-refined, which is the same after such training on "
        "photographs without labels; none of these was among them."
    )
    _add_groups(page, out, shown)
    _add_queries(page, out, [(photographs, of_photographs), (drawn, models)])
    _add_segments(page, out, shown)
    _add_boxes(page, out, scenes)
    page.heading("What to do next")
    page.code(next_steps)
    write_json(out / "regions.json", [report.to_json() for report in reports])
    return page.write(out / "index.html")


def _add_scores(page: ReportPage, out: Path, reports: Sequence[RegionReport], *, minutes: float) -> None:
    modes = [mode for mode in TITLES if mode in reports[0].scores]
    rows = [
        [report.model, *(f"{report.scores[mode].top1:.1f} / {report.scores[mode].top5:.1f}" for mode in modes)]
        for report in reports
    ]
    page.heading("Can it name regions?")
    page.paragraph(
        f"Mean class accuracy in percent (top-1 / top-5) on {reports[0].images} held-out scenes with "
        f"{reports[0].settings['classes']} names; crops are the teacher's own view and the upper bound. "
        "Crops are read by the class token; the loss teaches the dense map, and keeps what that token says of whole "
        "pictures (--keep-image). A lower share of the student in the blend keeps more of it. "
        f"Everything on this page took {minutes:.1f} minutes."
    )
    page.table(["model", *(TITLES[mode] for mode in modes)], rows, best=len(rows) - 1)
    chart = draw_comparison([report.to_json() for report in reports], path=out / "regions.png")
    page.picture(chart, caption="mean class accuracy, original and refined")


def _of_photograph(name: str, story: Story, models: Sequence[Column]) -> Shown:
    return Shown(name=name, picture=load_photo(name), models=models, asked=story.asked, names=story.names)


def _of_scene(name: str, scene: Scene, models: Sequence[Column]) -> Shown:
    largest = max((segment for segment in scene.segments if segment.is_thing), key=lambda segment: segment.area)
    names = tuple(dict.fromkeys(segment.name for segment in scene.segments))
    return Shown(name=name, picture=scene.image, models=models, asked=f"a {largest.name}", names=names)


def _add_groups(page: ReportPage, out: Path, shown: Sequence[Shown]) -> None:
    page.heading("What belongs together")
    page.paragraph("K-means groups of the dense map; groups that overlap share a colour from column to column.")
    for one in shown:
        row = kmeans_row(one.picture, one.models, image_size=SIDE)
        _show(page, row, out / f"kmeans-{one.name}.png", f"K-means groups, {one.name}")


def _add_queries(page: ReportPage, out: Path, groups: Sequence[tuple[Sequence[Shown], Sequence[Column]]]) -> None:
    page.heading("Where is it?")
    page.paragraph(
        "Similarity of every patch to a text; any English phrase can be asked. One scale for all of a model."
    )
    for shown, models in groups:
        rows = query_rows([(one.picture, one.asked) for one in shown], models, image_size=SIDE)
        for one, row in zip(shown, rows, strict=True):
            _show(page, row, out / f"query-{one.name}.png", f'"{one.asked}" in {one.name}')


def _add_segments(page: ReportPage, out: Path, shown: Sequence[Shown]) -> None:
    page.heading("What is every pixel?")
    page.paragraph("Each pixel takes the name that its patch is nearest to, without any training for that.")
    for one in shown:
        if one.names:
            maps = {model.title: _named(model, one.picture, one.names) for model in one.models}
            row = draw_panels(one.picture, maps, one.names)
            _show(page, row, out / f"segments-{one.name}.png", f"{', '.join(one.names)} in {one.name}")


def _named(model: Column, picture: Image.Image, names: Sequence[str]) -> Tensor:
    settings = TrainingFreeSettings(readout=model.readout, templates="simple")
    return TrainingFree(model.clip, names, settings).segment(picture).labels_HW


def _add_boxes(page: ReportPage, out: Path, scenes: dict[str, Scene]) -> None:
    page.heading("Where are things?")
    page.paragraph(
        "The packaged detector, small heads on the packaged CLIP: trained on generated scenes, asked for our names. "
        "The best boxes, as many as there are things."
    )
    detector = Detector.from_checkpoint(device="cpu")
    asked = {name: (load_photo(name), names) for name, names in DETECTED.items()}
    for name, scene in scenes.items():
        asked[name] = (scene.image, tuple(one.name for one in scene.segments if one.is_thing))
    for name, (picture, things) in asked.items():
        names = tuple(dict.fromkeys(things))
        (found,) = detector.predict(picture, names)
        drawn = annotate(picture, found[: len(things)])
        row = lay_out([[("image", picture), (", ".join(names), drawn)]], height=300)
        _show(page, row, out / f"boxes-{name}.png", f"{', '.join(names)} in {name}")


def _show(page: ReportPage, picture: Image.Image, path: Path, caption: str) -> None:
    save_picture(picture, path)
    page.picture(picture, caption=caption)
