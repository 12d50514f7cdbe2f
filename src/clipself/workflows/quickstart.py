"""The first ten minutes: refine the packaged model on pictures without labels, and look at what that did."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clipself.backbones.loading import load_clip
from clipself.data.photographs import PHOTOS
from clipself.data.scenes.draw import SceneMaker
from clipself.data.scenes.export import SceneImages
from clipself.distillation.config import DistillConfig
from clipself.distillation.recipes import distill_recipe
from clipself.distillation.train import distill
from clipself.engine.fields import fitted
from clipself.regions.evaluate import score_regions
from clipself.regions.report import RegionReport, compare_reports
from clipself.workflows.quickstart_page import write_report
from clipself.workflows.show import Column

IMAGE_SIZE: Final = 320
MODES: Final = ("boxes", "thing_masks", "crops")
OF_PHOTOGRAPHS: Final = {"original": "clipself-mini-photos", "refined": "clipself-mini-refined"}
"""Column of the packaged photographs -> model: what minutes of scenes do not show there, hours of photographs do."""


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
    photographs = [Column(title=title, clip=load_clip(name)) for title, name in OF_PHOTOGRAPHS.items()]
    page = write_report(
        out, columns, photographs, [before, after], run=config.out, minutes=minutes,
        next_steps=next_steps(run.blended),
    )  # fmt: skip
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
