"""Seconds of each tab of `clipself demo`: the first look at a picture, then names that were never typed before.

    python benchmarks/demo.py --longest 320

An answer is all that the page computes: names embedded, heads, drawing, and the picture encoded as it is sent. Both the
clock's time and the processor's are printed, with the load of the machine: where other work runs they differ.
"""

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from PIL import Image

from clipself.data.photographs import PHOTOS, load_photo
from clipself.workflows.live.config import DemoConfig
from clipself.workflows.live.studio import Studio
from clipself.workflows.live.views import VIEWS, Answer, Question
from figures import Figures, add_json, headline

LISTS = (
    "cat, cup", "dog, spoon, plate", "red roof, lake", "pagoda, path, wall, tree", "stairs", "boat, bird, hill, window",
    "lamp, mist, column", "petal, stem",
)  # fmt: skip


def encode(answer: Answer) -> int:
    """Bytes of an answer as PNG or JSON."""
    sent = 0
    for part in answer.parts:
        for one in part if isinstance(part, tuple) else (part,):
            if isinstance(one, Image.Image):
                one.save(target := io.BytesIO(), format="PNG")
                sent += target.tell()
            else:
                sent += len(one or "")
    return sent


def measure(ask: Callable[[], Answer]) -> tuple[float, float]:
    """Seconds of the clock, and of the processor with all its threads."""
    clock, processor = time.perf_counter(), time.process_time()
    encode(ask())
    return time.perf_counter() - clock, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--longest", type=int, default=320, help="longest side of the picture, in pixels")
    parser.add_argument("--refined", type=Path, default=None)
    parser.add_argument("--lists", type=int, default=len(LISTS))
    add_json(parser)
    options = parser.parse_args()
    figures = Figures(options.json)
    studio = Studio(DemoConfig(device="cpu", refined=options.refined))
    print(headline())
    print(f"{'tab':<14}  first look  other names: median  worst  (processor: median  worst)")
    with tempfile.TemporaryDirectory() as folder:
        for tab, view in VIEWS.items():
            times = []
            for name in PHOTOS:  # the first of them opens what is opened late, and does not count
                image = load_photo(name)
                image.thumbnail((options.longest, options.longest))
                image.save(file := Path(folder) / f"{tab[:3]}-{name}.png")
                looked = measure(lambda file=file, view=view: view(studio, Question(picture=str(file), names="thing")))  # type: ignore[misc]
            for number, names in enumerate(LISTS[: options.lists]):
                words = ", ".join(f"{word} {tab[:3]}{number}" for word in names.split(", "))  # new in every tab
                asked = Question(picture=str(file), names=words, stuff="sky", threshold=0.2)
                times.append(measure(lambda asked=asked, view=view: view(studio, asked)))  # type: ignore[misc]
            clock, processor = zip(*times, strict=True)
            print(
                f"{tab:<14}  {looked[0]:10.2f}  {median(clock):19.2f}  {max(clock):5.2f}"
                f"  {median(processor):19.2f}  {max(processor):5.2f}"
            )
            figures.note(f"{tab}, {options.longest} px: first look", looked[1], "s")
            figures.note(f"{tab}, {options.longest} px: other names", median(processor), "s")


if __name__ == "__main__":
    main()
