"""The stuff of the scenes: ground that is told by colour and pattern."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[Any]
Random = np.random.Generator


def _noise(rng: Random, size: tuple[int, int], cell: int) -> Pixels:
    """Smooth noise (H, W, 1) of about unit spread, with blotches of `cell` pixels."""
    height, width = size
    coarse = rng.standard_normal((height // cell + 2, width // cell + 2)).astype(np.float32)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    pixels: Pixels = np.asarray(smooth, dtype=np.float32)[..., None]
    return pixels


def _tint(rng: Random, colour: tuple[int, int, int], spread: float = 10.0) -> Pixels:
    tinted: Pixels = np.asarray(colour, dtype=np.float32) + rng.normal(0, spread, 3).astype(np.float32)
    return tinted


def _speckled(colour: tuple[int, int, int], *, fine: float, coarse: float, cell: int = 24) -> "Texture":
    def draw(rng: Random, size: tuple[int, int]) -> Pixels:
        ground: Pixels = _tint(rng, colour) + fine * _noise(rng, size, 2) + coarse * _noise(rng, size, cell)
        return ground

    return draw


def _grass(rng: Random, size: tuple[int, int]) -> Pixels:
    blades: Any = Image.fromarray(rng.standard_normal((size[0] // 6 + 1, size[1])).astype(np.float32))
    streaks = np.asarray(blades.resize((size[1], size[0]), Image.Resampling.BILINEAR))[..., None]
    ground: Pixels = _tint(rng, (72, 140, 48)) + 22 * streaks + 10 * _noise(rng, size, 30)
    return ground


def _water(rng: Random, size: tuple[int, int]) -> Pixels:
    rows = np.arange(size[0], dtype=np.float32)[:, None, None]
    phase = 3 * _noise(rng, size, 40)
    waves = np.sin(rows / rng.uniform(2.5, 4.5) + phase)
    ground: Pixels = _tint(rng, (38, 108, 168)) + 16 * waves + 6 * _noise(rng, size, 6)
    return ground


def _sky(rng: Random, size: tuple[int, int]) -> Pixels:
    fade = np.linspace(0, 1, size[0], dtype=np.float32)[:, None, None]
    clouds = np.clip(_noise(rng, size, 48), 0, 2)
    ground: Pixels = _tint(rng, (120, 180, 235), 6) + 40 * fade + 35 * clouds
    return ground


def _brick(rng: Random, size: tuple[int, int]) -> Pixels:
    height, width = int(rng.integers(10, 16)), int(rng.integers(24, 34))
    y, x = np.mgrid[: size[0], : size[1]]
    course = y // height
    mortar = (y % height < 2) | ((x + (course % 2) * width // 2) % width < 2)
    shade = rng.normal(0, 14, (size[0] // height + 2, size[1] // width + 3)).astype(np.float32)
    bricks = shade[course, (x + (course % 2) * width // 2) // width][..., None]
    wall = _tint(rng, (165, 74, 52)) + bricks + 4 * _noise(rng, size, 2)
    bricked: Pixels = np.where(mortar[..., None], np.float32(190.0), wall).astype(np.float32)
    return bricked


def _wood(rng: Random, size: tuple[int, int]) -> Pixels:
    plank = int(rng.integers(24, 40))
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    grain = np.sin(y / 2.2 + 4 * _noise(rng, size, 60)[..., 0] + x / 90)
    seam = (y % plank < 1.5)[..., None]
    boards = _tint(rng, (156, 108, 62)) + 12 * grain[..., None] + 5 * _noise(rng, size, 3)
    planks: Pixels = np.where(seam, boards * 0.5, boards).astype(np.float32)
    return planks


def _tiles(rng: Random, size: tuple[int, int]) -> Pixels:
    side = int(rng.integers(22, 36))
    y, x = np.mgrid[: size[0], : size[1]]
    checker = ((y // side + x // side) % 2)[..., None].astype(np.float32)
    joint = ((y % side < 2) | (x % side < 2))[..., None]
    floor = _tint(rng, (205, 200, 190)) - 55 * checker + 3 * _noise(rng, size, 3)
    tiled: Pixels = np.where(joint, np.float32(120.0), floor).astype(np.float32)
    return tiled


Texture = Callable[[Random, tuple[int, int]], Pixels]

STUFF: Final[Mapping[str, Texture]] = {
    "sky": _sky,
    "grass": _grass,
    "sand": _speckled((222, 196, 140), fine=9, coarse=7),
    "water": _water,
    "brick wall": _brick,
    "wooden floor": _wood,
    "snow": _speckled((238, 242, 248), fine=4, coarse=6),
    "road": _speckled((92, 92, 96), fine=12, coarse=5),
    "tiled floor": _tiles,
    "soil": _speckled((104, 72, 46), fine=16, coarse=10, cell=12),
}
"""Stuff class -> its texture, in the order of their ids; a texture gives (H, W, 3) in 0..255, not yet clipped."""
