"""Openly licensed photographs that ship with the package; `photos/LICENSES.md` names their authors."""

from pathlib import Path
from typing import Final

from PIL import Image

from clipself.choices import pick
from clipself.data.images import read_image

PHOTOS: Final = {path.stem: path for path in sorted((Path(__file__).parent / "photos").glob("*.jpg"))}
"""Name -> file."""


def load_photo(name: str) -> Image.Image:
    """A photograph by name, one of `PHOTOS`: "cat", "coffee", "windmill" and more.

    Raises:
        ValueError: There is no such photograph.
    """
    return read_image(pick(PHOTOS, name, what="photograph"))
