"""Examples of things: pictures that show them closely cut, or regions of pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clipself.data.images.read import Picture, list_pictures


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A picture that shows a thing, or where it shows it.

    Attributes:
        picture: The picture.
        boxes: `xyxy` in its pixels; with masks one for each.
        masks: COCO run lengths, or nothing; without boxes and masks the whole picture is the example.
    """

    picture: Picture
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    masks: tuple[Mapping[str, Any] | None, ...] = ()

    def __post_init__(self) -> None:
        if self.masks and len(self.masks) != len(self.boxes):
            raise ValueError(f"{len(self.masks)} masks and {len(self.boxes)} boxes; give each box its mask, or None")


Examples = Mapping[str, Sequence[Picture | Example] | Picture | Example]
"""Name of a thing -> pictures that show it, closely cut, or regions of pictures; one or several."""


def list_examples(name: str, given: Sequence[Picture | Example] | Picture | Example) -> list[Example]:
    """One example or several as a list.

    Raises:
        ValueError: There are none.
    """
    pictures: list[Any] = [given] if isinstance(given, Example) else list(list_pictures(given))  # type: ignore[arg-type]
    if not pictures:
        raise ValueError(f"there are no pictures of {name!r}; pass at least one")
    return [one if isinstance(one, Example) else Example(picture=one) for one in pictures]
