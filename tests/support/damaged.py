"""Picture files cut short, with other bytes, or with other lengths in their heads."""

import io
import random
from collections.abc import Iterator

import numpy as np
from PIL import Image

KINDS = {
    "png": {}, "jpg": {}, "gif": {}, "webp": {}, "tif": {"compression": "tiff_lzw"}, "bmp": {}, "ppm": {}, "tga": {},
    "jp2": {},
}  # fmt: skip
FORMATS = {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}


def damaged_files(
    rng: random.Random, count: int, *, kinds: tuple[str, ...] = tuple(KINDS)
) -> Iterator[tuple[str, bytes]]:
    """Names and contents; `count` of each kind of file."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 44, 3), dtype=np.uint8))
    for kind in kinds:
        stream = io.BytesIO()
        picture.save(stream, FORMATS.get(kind, kind.upper()), **KINDS[kind])
        whole = stream.getvalue()
        for number in range(count):
            yield f"{kind}-{number}.{kind}", damage(whole, number, rng)


def damage(whole: bytes, number: int, rng: random.Random) -> bytes:
    """One of three ways to spoil a file, in turn."""
    if number % 3 == 0:
        return whole[: rng.randrange(len(whole))]
    data = bytearray(whole)
    reach = len(data) if number % 3 == 1 else min(120, len(data))
    for _ in range(rng.choice((1, 3, 20))):
        data[rng.randrange(reach)] = rng.choice((0, 1, 127, 255, rng.randrange(256)))
    return bytes(data)
