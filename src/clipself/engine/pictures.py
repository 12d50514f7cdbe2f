"""Settings of a prediction and its pictures, which Python may give as opened ones."""

from os import PathLike
from typing import Any, TypeVar

from clipself.data.images import FoundPictures, find_pictures, list_pictures
from clipself.engine.resolve import resolve

C = TypeVar("C")


def resolve_pictures(kind: type[C], config: Any = None, /, **options: Any) -> tuple[C, FoundPictures]:
    """The config of a prediction, and its pictures.

    Args:
        kind: Class of settings, whose field `images` holds files and folders.
        config: All settings, also as a table or a file.
        options: Fields of `kind`; `images` may hold opened pictures too (PIL, arrays, tensors), which the config knows
            by their names. Of videos every frame is taken, or those that a setting `every` leaves.

    Raises:
        ValueError: A setting is misspelt, missing, or does not fit, or something is no picture.
        FileNotFoundError: A picture is missing, or there is none.
    """
    made, opened = resolve_opened(kind, config, **options)
    held: Any = made
    return made, opened or find_pictures(held.images, every=getattr(held, "every", 1))


def resolve_opened(kind: type[C], config: Any = None, /, **options: Any) -> tuple[C, FoundPictures | None]:
    """The config, and the pictures where some were given as opened ones; see `resolve_pictures`."""
    listed = None
    if options.get("images") is not None:
        options["images"] = given = list_pictures(options["images"])
        if not all(isinstance(one, str | PathLike) for one in given):
            listed = find_pictures(given)
            options["images"] = listed.paths
    return resolve(kind, None, config, **options), listed
