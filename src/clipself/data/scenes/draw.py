"""Draws one scene: bands of ground, things with shadows in front of one another, and the truth about every pixel."""

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from clipself.data.scenes.art import THINGS, load_art
from clipself.data.scenes.textures import STUFF

CLASSES = (*THINGS, *STUFF)
"""Names of all classes; id = position + 1."""

LEAST_VISIBLE = 0.35
"""A thing covered more than this leaves stays out of the scene."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One thing, or one kind of stuff.

    Attributes:
        id: Value of its pixels in the panoptic map, from 1.
        name: Class name.
        is_thing: Things True, stuff False.
        box: `xyxy` of its visible pixels; the far corner is one past the last.
        area: Visible pixels.
    """

    id: int
    name: str
    is_thing: bool
    box: tuple[int, int, int, int]
    area: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """One picture and everything in it.

    Attributes:
        image: RGB picture.
        panoptic_HW: Segment id of every pixel; none is 0.
        segments: What the ids are.
    """

    image: Image.Image
    panoptic_HW: NDArray[np.int32]
    segments: tuple[Segment, ...]


class SceneMaker:
    """Makes scene i, always the same for the same seed, in whatever order it is asked for.

    Args:
        size: Height and width in pixels.
        seed: Other seeds are other worlds; "train" and "val" are kept apart by theirs.
        style: Sheet of the art.
        things: Class names that may stand in the scenes.
        most_things: Upper bound of things in a scene.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int] = (320, 320),
        seed: int | str = "train",
        style: str = "noto",
        things: tuple[str, ...] = THINGS,
        most_things: int = 9,
    ) -> None:
        unknown = [name for name in things if name not in THINGS]
        if unknown or not things:
            raise ValueError(f"unknown thing {unknown[:1]}, expected some of the {len(THINGS)} names in THINGS")
        if min(size) < 64:
            raise ValueError(f"scenes of {size[0]} x {size[1]} pixels are too small for their things; use at least 64")
        self.size, self.seed, self.style = size, seed, style
        self.things, self.most_things = things, most_things

    def __call__(self, index: int) -> Scene:
        """Draws scene `index`."""
        rng = random.Random(f"{self.seed}/{index}")
        noise = np.random.default_rng(rng.randrange(2**63))
        ground, stuff_of = self._ground(rng, noise)
        canvas = Image.fromarray(ground)
        owner = np.zeros(self.size, dtype=np.int32)  # 0: ground; n: the nth thing
        names: list[str] = []
        for _ in range(rng.randint(2, self.most_things)):
            name = rng.choice(self.things)
            canvas, owner = self._place(canvas, owner, name, names, rng)
        return _describe(canvas, owner, stuff_of, names)

    def _ground(self, rng: random.Random, noise: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Two or three kinds of stuff in wavy bands; the sky, where there is one, on top."""
        height, width = self.size
        kinds = rng.sample(list(STUFF), rng.choice((1, 2, 2, 3)))
        kinds.sort(key=lambda kind: kind != "sky")
        pixels = np.zeros((height, width, 3), dtype=np.float32)
        stuff_of = np.zeros((height, width), dtype=np.int32)
        x = np.arange(width)
        for place, kind in enumerate(kinds):
            level = height * place / len(kinds) + rng.uniform(-0.08, 0.08) * height * (place > 0)
            wave = rng.uniform(0, 0.05) * height * np.sin(x / rng.uniform(20, 60) + rng.uniform(0, 6))
            below = np.arange(height)[:, None] >= (
                level + (wave + rng.uniform(-0.2, 0.2) * (x - width / 2)) * (place > 0)
            )
            texture = STUFF[kind](noise, self.size)
            pixels[below] = texture[below]
            stuff_of[below] = list(STUFF).index(kind)
        return np.clip(pixels, 0, 255).astype(np.uint8), stuff_of

    def _place(
        self, canvas: Image.Image, owner: NDArray[np.int32], name: str, names: list[str], rng: random.Random
    ) -> tuple[Image.Image, NDArray[np.int32]]:
        """Puts one thing in front, unless it would hide another one too much; `names` grows with it."""
        height, width = self.size
        art = _pose(load_art(self.style)[name], rng, longest=rng.uniform(0.12, 0.5) * min(self.size))
        left = rng.randint(-art.width // 5, width - art.width * 4 // 5)
        top = rng.randint(-art.height // 5, height - art.height * 4 // 5)
        layer = Image.new("RGBA", (width, height))
        layer.paste(art, (left, top))
        covered = np.asarray(layer)[..., 3] > 127
        changed = np.where(covered, len(names) + 1, owner).astype(np.int32)
        for number in range(1, len(names) + 1):
            before = int((owner == number).sum())
            if (changed == number).sum() < max(LEAST_VISIBLE * before, 60):
                return canvas, owner
        if covered.sum() < 60:
            return canvas, owner
        names.append(name)
        shadow = layer.getchannel("A").filter(ImageFilter.GaussianBlur(4)).point(lambda value: int(value * 0.35))
        moved = Image.new("L", (width, height))
        moved.paste(shadow, (rng.randint(1, 5), rng.randint(2, 6)))
        ground = Image.composite(Image.new("RGB", (width, height)), canvas, moved)
        ground.paste(layer, (0, 0), layer)
        return ground, changed


def _pose(art: Image.Image, rng: random.Random, *, longest: float) -> Image.Image:
    """Turned, mirrored, coloured a little differently, brought to size."""
    if rng.random() < 0.5:
        art = art.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    alpha, colour = art.getchannel("A"), art.convert("RGB")
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Color, ImageEnhance.Contrast):
        colour = enhance(colour).enhance(rng.uniform(0.8, 1.2))
    colour.putalpha(alpha)
    turned = colour.rotate(rng.uniform(-20, 20), resample=Image.Resampling.BICUBIC, expand=True)
    scale = longest / max(turned.size)
    return turned.resize((max(10, round(turned.width * scale)), max(10, round(turned.height * scale))))


def _describe(canvas: Image.Image, owner: NDArray[np.int32], stuff_of: NDArray[np.int32], names: list[str]) -> Scene:
    """Numbers the visible things and the stuff between them."""
    panoptic = np.zeros_like(owner)
    found = [(names[number - 1], True, owner == number) for number in range(1, len(names) + 1)]
    found += [(kind, False, (owner == 0) & (stuff_of == place)) for place, kind in enumerate(STUFF)]
    segments: list[Segment] = []
    for name, is_thing, mask in found:
        rows, cols = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
        if not len(rows):
            continue
        panoptic[mask] = len(segments) + 1
        box = (int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1)
        segments.append(Segment(id=len(segments) + 1, name=name, is_thing=is_thing, box=box, area=int(mask.sum())))
    return Scene(image=canvas, panoptic_HW=panoptic, segments=tuple(segments))
