"""Cost against size, as curves: pictures of an index, names of a vocabulary, sides of a picture.

    python benchmarks/sizes.py --json sizes.json --picture docs/images/sizes.png
    python benchmarks/sizes.py --from sizes.json --picture docs/images/sizes.png

The packaged model, random heads of the published sizes; processor seconds, all threads together, of one call each
after one that does not count. The picture is a square of noise: of 320 px for the names, and CAT-Seg sees it once, at a
grid of 12 x 12. An index is made up (see `shard_index.py`); its time is that from opening it to the first batch.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image

from clipself.backbones.loading import load_clip
from clipself.files import write_atomically
from clipself.segmentation.catseg.inference import CatSegInference
from clipself.segmentation.catseg.model import CatSeg, catseg_settings
from clipself.segmentation.catseg.segmenter import CatSegSegmenter
from clipself.segmentation.san.model import San, san_settings
from clipself.segmentation.san.segmenter import SanSegmenter
from clipself.segmentation.segmenter import Segmenter
from clipself.segmentation.training_free.segmenter import TrainingFree
from clipself.segmentation.training_free.settings import TrainingFreeSettings
from figures import Figures, add_json, headline
from segmentation import random_texts
from shard_index import measure

IMAGES: Final = (100, 10_000, 1_000_000)
NAMES: Final = (10, 50, 150, 400, 847, 1300)
SIDES: Final = (224, 320, 448, 640, 896, 1216, 1536)
SIDE: Final = 320
TITLES: Final = {
    "images": ("pictures of an index", "seconds to the first batch", 1, "as pictures"),
    "names": ("names of a picture", "processor seconds", 1, "as names"),
    "side": ("side of a picture in pixels", "processor seconds", 2, "as pixels"),
}
"""Axis -> what it says, what the values are, and what the grey line grows as: a power of the size, and its name."""

Curves = dict[str, dict[str, list[tuple[float, float]]]]


def seconds(work: Callable[[], object]) -> float:
    """Of the second call."""
    work()
    begun = time.process_time()
    work()
    return time.process_time() - begun


def of_images(images: tuple[int, ...]) -> Iterator[tuple[str, int, float]]:
    """Series, size, seconds."""
    for count in images:
        yield "first batch", count, measure(count, 10_000)["first_batch_s"]


def of_names(names: tuple[int, ...]) -> Iterator[tuple[str, int, float]]:
    """Series, size, seconds; a picture is read once, and then answers."""
    clip = load_clip("clipself-mini")
    clip.encode_text = random_texts(clip.embed_dim)  # type: ignore[method-assign]
    image = Image.effect_noise((SIDE, SIDE), 60).convert("RGB")
    catseg = CatSeg(clip, catseg_settings(clip, image_size=12 * clip.patch_size)).eval()
    san = San(clip.copy(), san_settings(clip)).eval()
    whole = CatSegInference(mode="whole")
    for count in names:
        listed = [f"thing {number}" for number in range(count)]
        segmenters: dict[str, Segmenter] = {
            "training-free": TrainingFree(clip, listed, TrainingFreeSettings(templates="simple")),
            "SAN": SanSegmenter(san, listed, shortest=SIDE),
            "CAT-Seg": CatSegSegmenter(catseg, listed, how=whole, shortest=None),
            "CAT-Seg, class_cap=256": CatSegSegmenter(
                catseg, listed, how=CatSegInference(mode="whole", class_cap=256), shortest=None
            ),
        }
        for title, segmenter in segmenters.items():
            segmenter.set_image(image)
            yield title, count, seconds(segmenter.segment)


def of_sides(sides: tuple[int, ...]) -> Iterator[tuple[str, int, float]]:
    """Series, size, seconds."""
    clip = load_clip("clipself-mini")
    for side in sides:
        images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            yield "dense map", side, seconds(lambda seen=images: clip.dense_map(seen))  # type: ignore[misc]


def draw(curves: Curves, path: Path) -> Path:
    """A panel an axis, both scales logarithmic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 3.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    every: Any = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (axis, series) in zip(every, curves.items(), strict=True):
        across, up, power, told = TITLES[axis]
        for title, points in series.items():
            axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=title)
        (first, low), (last, _) = min(points for points in series.values())[0], next(iter(series.values()))[-1]
        axes.plot(
            [first, last], [low, low * (last / first) ** power], color="0.7", linestyle="--", zorder=0, label=told
        )
        axes.set(xscale="log", yscale="log", xlabel=across, ylabel=up)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
        sizes = sorted({size for points in series.values() for size, _ in points})
        axes.set_xticks(sizes, [f"{size:.0e}".replace("e+0", "e") if size > 9999 else str(int(size)) for size in sizes])
        axes.minorticks_off()
        axes.tick_params(labelsize=7)
    return write_atomically(path, lambda part: figure.savefig(part, format="png"))


def read(held: Mapping[str, Any]) -> Curves:
    """The curves of a file of figures."""
    curves: Curves = {}
    for row in held["figures"]:
        axis, size, title = row["name"].split(" ", 2)
        curves.setdefault(axis, {}).setdefault(title, []).append((float(size), row["value"]))
    return curves


def main() -> None:
    """Prints a line a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="*", default=IMAGES)
    parser.add_argument("--names", type=int, nargs="*", default=NAMES)
    parser.add_argument("--sides", type=int, nargs="*", default=SIDES)
    parser.add_argument("--picture", type=Path, help="PNG of the curves")
    parser.add_argument("--from", type=Path, dest="kept", help="draw the figures of this file, measure nothing")
    add_json(parser)
    options = parser.parse_args()
    if options.kept:
        curves = read(json.loads(options.kept.read_text()))
    else:
        print(headline())
        figures, curves = Figures(options.json), {}
        asked = {
            "images": of_images(tuple(options.images)), "names": of_names(tuple(options.names)),
            "side": of_sides(tuple(options.sides)),
        }  # fmt: skip
        for axis, found in asked.items():
            for title, size, value in found:
                print(f"{axis} {size} {title}: {value:.3f} s", flush=True)
                figures.note(f"{axis} {size} {title}", value, "s")
                curves.setdefault(axis, {}).setdefault(title, []).append((float(size), value))
    if options.picture:
        print(draw(curves, options.picture))


if __name__ == "__main__":
    main()
