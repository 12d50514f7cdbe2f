"""Seconds a picture of CAT-Seg, SAN and training-free segmentation, beside the bare forward pass of the tower.

    python benchmarks/segmentation.py --model ViT-B-16 --pretrained random

Times are those of the processor (all threads together), so that a busy machine does not change them much; heads and
texts are random. Names are embedded once for all pictures, which does not count here. Beside the whole stands what
other names cost for a picture that was read before, and how many times that the scores of every class would.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clipself.backbones.loading import load_clip
from clipself.data.images import read_image
from clipself.segmentation.catseg.inference import CatSegInference
from clipself.segmentation.catseg.model import CatSeg, catseg_settings
from clipself.segmentation.catseg.segmenter import CatSegSegmenter
from clipself.segmentation.san.model import San, san_settings
from clipself.segmentation.san.segmenter import SanSegmenter
from clipself.segmentation.segmenter import ReadingSegmenter
from clipself.segmentation.streamed_argmax import streamed_argmax
from clipself.segmentation.training_free.segmenter import TrainingFree
from clipself.segmentation.training_free.settings import TrainingFreeSettings
from figures import Figures, add_json, headline, interleaved

SEGMENTERS: Final = ("training-free", "SAN", "CAT-Seg")


def measure(run: Callable[[], object], *, times: int) -> float:
    begun = time.process_time()
    for _ in range(times):
        run()
    return (time.process_time() - begun) / times


@torch.no_grad()
def answer(segmenter: ReadingSegmenter[Any], image: Image.Image, *, times: int) -> tuple[float, float]:
    """Seconds of the names alone for a picture that was read, and how many times that the scores of all would cost."""
    reading, size = segmenter.read(image), (image.height, image.width)
    taken = interleaved(
        {
            "contenders": lambda: segmenter.decide(reading, size),
            "all": lambda: streamed_argmax(segmenter.compare(reading, size)),
        },
        rounds=times,
    )
    return taken["contenders"], taken["all"] / taken["contenders"]


def random_texts(width: int) -> Callable[..., Tensor]:
    """Stands in for the text tower."""

    def encode(texts: Sequence[str], *, normalize: bool = True, longest: int | None = None) -> Tensor:
        return F.normalize(torch.randn(len(texts), width), dim=-1)

    return encode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="clipself-mini")
    parser.add_argument("--pretrained", default=None)
    parser.add_argument("--classes", type=int, nargs="+", default=[150, 847])
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--segmenters", nargs="+", choices=SEGMENTERS, default=SEGMENTERS)
    parser.add_argument("--image", help="a picture in place of 640 x 640 pixels of noise")
    add_json(parser)
    options = parser.parse_args()
    figures = Figures(options.json)
    clip = load_clip(options.model, options.pretrained)
    clip.encode_text = random_texts(clip.embed_dim)  # type: ignore[method-assign]
    side = 640 // clip.patch_size * clip.patch_size
    image = read_image(options.image) if options.image else Image.effect_noise((640, 640), 60).convert("RGB")
    pixels = clip.preprocess(image, size=(side, side))[None]
    with torch.no_grad():
        bare = measure(lambda: clip.dense_map(pixels), times=options.times)
    print(headline())
    print(f"{options.model}: dense map at {side} px {bare:.2f} s")
    catseg, san = CatSeg(clip, catseg_settings(clip)).eval(), San(clip.copy(), san_settings(clip)).eval()
    for count in options.classes:
        names = [f"thing {number}" for number in range(count)]
        window = catseg.image_size
        rows = {
            "training-free, windows of 224": TrainingFree(clip, names, TrainingFreeSettings(templates="simple")),
            "SAN": SanSegmenter(san, names),
            "CAT-Seg, one pass": CatSegSegmenter(catseg, names, how=CatSegInference(mode="whole"), shortest=None),
            "CAT-Seg, 4 windows and the whole": CatSegSegmenter(catseg, names, how=CatSegInference(window=window)),
        }
        for title, segmenter in rows.items():
            if title.split(",")[0] not in options.segmenters:
                continue
            seconds = measure(lambda one=segmenter: one.label(image), times=options.times)  # type: ignore[misc]
            print(
                f"{count:4d} classes  {title:<34} {seconds:7.2f} s  {seconds / bare:6.1f} x the dense map", flush=True
            )
            figures.note(f"{options.model}, {count} classes: {title}", seconds, "s")
            figures.note(f"{options.model}, {count} classes: {title}, over the dense map", seconds / bare, "x")
            if isinstance(segmenter, TrainingFree | SanSegmenter):
                again, saved = answer(segmenter, image, times=options.times)
                print(f"{'':12} {'names alone':<36} {again:7.3f} s, {saved:.1f} x that for every score", flush=True)
                figures.note(f"{options.model}, {count} classes: {title}, names alone", again, "s")
                figures.note(f"{options.model}, {count} classes: {title}, every score over that", saved, "x")


if __name__ == "__main__":
    main()
