"""Settings of a prediction and its pictures, which Python may give as opened ones."""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from typing import Any, TypeVar

from clipself.data.images import FoundPictures, find_pictures, list_pictures
from clipself.engine.resolve import resolve

log = logging.getLogger(__name__)

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
    if opened is not None:
        return made, opened
    found = find_pictures(held.images, every=getattr(held, "every", 1))
    return made, without_results(found, list_pictures(held.images), getattr(held, "out", None))


def without_results(found: FoundPictures, inputs: Sequence[Any], out: str | PathLike[str] | None) -> FoundPictures:
    """Leaves out what earlier calls have drawn, where results go into a folder below one that is searched.

    Args:
        found: All pictures.
        inputs: Files and folders that were asked for; those that are named themselves stay.
        out: Folder of the results.

    Raises:
        FileNotFoundError: Nothing else is there.
    """
    if out is None:
        return found
    own = os.path.abspath(out)
    given = [os.path.abspath(one) for one in inputs if isinstance(one, str | PathLike)]
    if not any(own.startswith(one + os.sep) for one in given):
        return found
    named = tuple(one + os.sep for one in given if one.startswith(own + os.sep))
    kept = tuple(
        one for one in found
        if not (path := os.path.abspath(one.path)).startswith(own + os.sep) or f"{path}{os.sep}".startswith(named)
    )  # fmt: skip
    if not kept:
        raise FileNotFoundError(f"there are no pictures but those in {out}, where results go; pass another out")
    if len(kept) == len(found):
        return found
    log.warning("%d pictures in %s, where results go, are left out", len(found) - len(kept), out)
    return replace(found, pictures=kept)


def resolve_opened(kind: type[C], config: Any = None, /, **options: Any) -> tuple[C, FoundPictures | None]:
    """The config, and the pictures where some were given as opened ones; see `resolve_pictures`."""
    listed = None
    if options.get("images") is not None:
        options["images"] = given = list_pictures(options["images"])
        if not all(isinstance(one, str | PathLike) for one in given):
            listed = find_pictures(given)
            options["images"] = listed.paths
    return resolve(kind, None, config, **options), listed
