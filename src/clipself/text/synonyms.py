"""Classes with several names, as the open-vocabulary segmentation systems write them."""

import logging
from collections.abc import Sequence

log = logging.getLogger(__name__)


def split_synonyms(name: str) -> tuple[str, ...]:
    """The names of a class written with commas: "car, automobile" -> ("car", "automobile").

    Source: ODISE and FC-CLIP, released prompt lists; only the blank after a comma belongs to it.

    Raises:
        ValueError: There is a comma without a name beside it.
    """
    names = tuple(name.replace(", ", ",").split(","))
    if not all(names):
        raise ValueError(f"{name!r} has an empty name between its commas; write 'car, automobile'")
    return names


def fill_plainly(names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Puts each name into each sentence as it stands: all sentences of the first name, then of the second."""
    return [template.replace("{}", name) for name in names for template in templates]


def tell_alike(names: Sequence[str]) -> None:
    """Warns of classes whose names differ in nothing that a text tower hears: the first of them wins every tie."""
    heard: dict[str, str] = {}
    for name in names:
        sound = " ".join(name.replace("_", " ").casefold().split())
        if sound in heard:
            log.warning(
                "the classes %r and %r sound alike; the second is never found: give them one name", heard[sound], name
            )
        heard.setdefault(sound, name)
