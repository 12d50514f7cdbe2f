"""Pictures that their EXIF tag turns without changing their size: labels drawn on the stored pixels lie elsewhere."""

from typing import Final

from PIL import Image

from clipself.data.images.read import orientation_of, turned
from clipself.data.once import Once

WAYS: Final = ("", "", "mirrored", "upside down", "upside down and mirrored", "on its side and mirrored", "on its side",
               "on its side and mirrored", "on its side")  # fmt: skip
"""How a picture of each orientation is stored."""


def tell_turned(once: Once, picture: Image.Image | str, *, name: str) -> None:
    """Says once that a labelled picture was turned by its tag, where no size can tell whether its labels were too.

    Args:
        once: Says it.
        picture: As `read_image` gives it, or its file.
        name: What messages call it.
    """
    if once.said:
        return
    way, square = (turned(picture), picture.width == picture.height) if isinstance(picture, Image.Image) else (
        orientation_of(picture), False)  # fmt: skip
    if way in (2, 3, 4) or (way > 4 and square):
        once.warn(
            "%s is stored %s and turned by its EXIF tag; its labels are taken to be drawn on the upright picture, here "
            "and elsewhere: where they were drawn on the stored pixels, save the pictures without the tag",
            name, WAYS[way],
        )  # fmt: skip
