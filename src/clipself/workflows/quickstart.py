"""The first five minutes: refine the packaged model on pictures without labels, and look at what that did."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clipself.backbones.loading import load_clip
from clipself.data.photographs import PHOTOS, load_photo
from clipself.data.scenes.draw import SceneMaker
from clipself.data.scenes.export import SceneImages
from clipself.distillation.config import DistillConfig
from clipself.distillation.recipes import distill_recipe
from clipself.distillation.train import distill
from clipself.engine.fields import fitted
from clipself.engine.log import read_metrics
from clipself.files import write_json
from clipself.regions.evaluate import score_regions
from clipself.regions.report import TITLES, RegionReport, compare_reports
from clipself.viz.bars import draw_comparison, draw_loss
from clipself.viz.report import ReportPage
from clipself.workflows.show import Column, kmeans_row, query_rows, save_picture

IMAGE_SIZE: Final = 320
MODES: Final = ("boxes", "thing_masks", "crops")
QUERIES: Final = (("cat", "a cat"), ("coffee", "a cup of coffee"), ("flower", "a flower"), ("rocket", "a rocket"))
"""Packaged photograph -> what is asked of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuickstartResult:
    """What the quickstart left behind.

    Attributes:
        page: The report.
        refined: Export folder of the refined model.
        before: Region scores of the packaged model on held-out scenes.
        after: Those of the refined one.
    """

    page: Path
    refined: Path
    before: RegionReport
    after: RegionReport


@fitted
def quickstart(
    out: str | Path = "report",
    *,
    model: str = "clipself-mini",
    scenes: int = 300,
    held_out: int = 60,
    steps: int = 240,
    seed: int = 0,
) -> QuickstartResult:
    """Refines a model on unlabelled generated scenes and photographs, and writes a report with pictures.

    Args:
        out: Folder to write: `index.html`, the pictures, the JSON, the run and the refined model.
        model: "clipself-mini", or any model that `load_clip` knows by one word.
        scenes: Generated scenes to distil on; their labels are not used.
        held_out: Scenes of another seed to measure on.
        steps: Optimizer steps.
        seed: Seed of the run.

    Returns:
        Where everything is, and the scores.

    Raises:
        OSError: The disk is full or the folder cannot be written.
    """
    out, begun = Path(out), time.monotonic()
    original = load_clip(model)
    print(f"1/4  writing {scenes} scenes without labels")
    folder = write_pictures(out / "pictures", scenes, seed=seed)
    print(f"2/4  measuring {model} on {held_out} held-out scenes")
    data = SceneImages(SceneMaker(seed=f"held out/{seed}"), held_out)
    before = score_regions(original, data, image_size=IMAGE_SIZE, modes=MODES, title="original")
    print(f"3/4  distilling for {steps} steps: crops teach the dense map")
    config = quickstart_config(folder, out / "run", model=model, steps=steps, seed=seed)
    run = distill(config)
    print("4/4  measuring again and drawing")
    refined = load_clip(run.blended)
    after = score_regions(refined, data, image_size=IMAGE_SIZE, modes=MODES, title="refined")
    print(compare_reports([before, after]))
    minutes = (time.monotonic() - begun) / 60
    columns = [Column(title="original", clip=original), Column(title="refined", clip=refined)]
    page = write_report(out, columns, [before, after], config, minutes=minutes)
    print(f"\nreport  {page}\nrefined model  {run.blended}\n\n{next_steps(run.blended)}")
    return QuickstartResult(page=page, refined=run.blended, before=before, after=after)


def quickstart_config(data: Path, out: Path, *, model: str, steps: int, seed: int) -> DistillConfig:
    """The modern recipe at the quickstart's size: coarse grids, whose cells hold whole things, at a high rate."""
    return distill_recipe(
        "modern", data=data, out=out, model=model, image_size=IMAGE_SIZE, max_steps=steps, seed=seed, overwrite=True,
        workers=1, save_every=0, batch_size=4, max_split=4, lr=1e-3,
    )  # fmt: skip


def write_pictures(folder: Path, count: int, *, seed: int) -> Path:
    """Scenes as bare pictures, and the packaged photographs beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    maker = SceneMaker(seed=f"quickstart/{seed}")
    for stale in folder.glob("scene-*.jpg"):  # of another seed, or more of them
        stale.unlink()
    for index in range(count):
        maker(index).image.save(folder / f"scene-{index:04d}.jpg", quality=92)
    for name, source in PHOTOS.items():
        (folder / f"photo-{name}.jpg").write_bytes(source.read_bytes())
    return folder


def next_steps(refined: Path) -> str:
    """Commands for one's own pictures and for a real CLIP."""
    return "\n".join(
        (
            "next, with your own pictures and this small model:",
            "  clipself distill --data photos/ --out runs/mine",
            f'  clipself show query "a dog" photos/one.jpg --refined {refined}',
            "with a real CLIP (downloads its weights):",
            "  clipself distill --recipe published-openai-b16 --data photos/ --out runs/b16 --image-size 512",
        )
    )


def write_report(
    out: Path,
    models: Sequence[Column],
    reports: Sequence[RegionReport],
    config: DistillConfig,
    *,
    minutes: float,
) -> Path:
    """Draws everything and binds it into one page."""
    page = ReportPage(
        "What self-distillation did to a small CLIP",
        lead="No labels were used: the model's own embeddings of image crops taught its dense map (CLIPSelf).",
    )
    _add_scores(page, out, reports, minutes=minutes)
    page.heading("How the loss went")
    page.paragraph("1 - cosine between each region of the dense map and the teacher's embedding of its crop.")
    curve = draw_loss(read_metrics(config.out), path=out / "loss.png", term="distance")
    page.picture(curve, caption="distance in every step")
    page.heading("What belongs together")
    page.paragraph("K-means groups of the dense map; groups that overlap share a colour from column to column.")
    scenes = SceneMaker(seed="held out/pictures")
    pictures = [(f"scene {index}", scenes(index).image) for index in (1, 5, 9)]
    pictures += [(name, load_photo(name)) for name in ("cat", "coffee", "china")]
    for name, picture in pictures:
        row = kmeans_row(picture, models, image_size=480)
        save_picture(row, out / f"kmeans-{name.replace(' ', '-')}.png")
        page.picture(row, caption=f"K-means groups, {name}")
    page.heading("Where is it?")
    page.paragraph("Similarity of every patch to a text; any English phrase can be asked. One scale for all.")
    asked = [(load_photo(name), text) for name, text in QUERIES]
    for index in (1, 5):
        scene = scenes(index)
        thing = max((segment for segment in scene.segments if segment.is_thing), key=lambda segment: segment.area)
        asked.append((scene.image, f"a {thing.name}"))
    places = [f"the photograph {name}" for name, _ in QUERIES] + ["a scene"] * 2
    for (_, text), row, place in zip(asked, query_rows(asked, models, image_size=480), places, strict=True):
        save_picture(row, out / f"query-{place.split()[-1]}.png")
        page.picture(row, caption=f'"{text}" in {place}')
    page.heading("What to do next")
    page.code(next_steps(config.out / "blended"))
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
