"""Finds pictures that show a thing anywhere, and where: by words, or by a box around the thing on some picture.

    python examples/find_pictures.py                                              # the packaged photographs
    python examples/find_pictures.py --images photos --words "a red kite"
    python examples/find_pictures.py --images photos --like photos/a.jpg --box 40 30 120 110

A picture counts by its best patch, so that small things are found that an embedding of the whole picture forgets.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor

import clipself
from clipself.backbones.examples import embed_examples
from clipself.data.images import Example, find_pictures, read_image
from clipself.data.photographs import PHOTOS
from clipself.ops.patches import fit_longest


@dataclass(frozen=True)
class Seen:
    """A picture with its dense map, small enough to be kept for thousands of pictures."""

    path: Path
    size: tuple[int, int]
    patches_DYX: Tensor


def index(clip: clipself.DenseCLIP, paths: list[Path], side: int) -> Iterator[Seen]:
    """Looks at every picture once; the shape of each is kept."""
    for path in paths:
        picture = read_image(path)
        size = fit_longest((picture.height, picture.width), longest=side, patch=clip.patch_size)
        dense = clip.dense_map(clip.preprocess(picture, size=size)[None])[0]
        yield Seen(path, (picture.height, picture.width), dense.half().cpu())


def main(
    *, images: Path | None = None, words: tuple[str, ...] = (), like: Path | None = None,
    box: tuple[float, float, float, float] | None = None, model: str = "clipself-mini", side: int = 320, top: int = 3,
) -> dict[str, list[tuple[Path, float, tuple[int, int]]]]:  # fmt: skip
    """Prints, for every question, the best pictures, their score and the pixel (x, y) that answers best."""
    clip = clipself.load_clip(model)
    paths = list(PHOTOS.values()) if images is None else find_pictures(images).paths
    seen = list(index(clip, paths, side))
    if like is None and not words:
        like, box = PHOTOS["flower"], (40, 40, 200, 200)
    rows = dict(zip(words, clip.encode_text(list(words)), strict=True)) if words else {}
    if like is not None:
        example = Example(picture=like, boxes=() if box is None else (box,))
        rows[f"like {like.name}"] = embed_examples(clip, {"it": example}, image_size=side)["it"]
    answers = {}
    for question, row in rows.items():
        found = []
        for one in seen:
            scores = (row.cpu() @ one.patches_DYX.float().flatten(1)).view(one.patches_DYX.shape[1:])
            y, x = divmod(int(scores.argmax()), scores.shape[1])
            place = (round((x + 0.5) * one.size[1] / scores.shape[1]), round((y + 0.5) * one.size[0] / scores.shape[0]))
            found.append((one.path, float(scores.max()), place))
        answers[question] = sorted(found, key=lambda each: -each[1])[:top]
        print(f"{question}:")
        for path, score, (x, y) in answers[question]:
            print(f"  {score:.3f}  {path}  at {x}, {y}")
    return answers


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    tyro.cli(main)
