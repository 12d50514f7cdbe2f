"""Formats that Pillow reads only with a plugin, told by the first bytes of a file and by its suffix."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from PIL import features


@dataclass(frozen=True, kw_only=True, slots=True)
class Plugin:
    """What a format needs.

    Attributes:
        name: Of the format, as people say it, with its article.
        brands: Of the file's `ftyp` box.
        advice: How to get it.
    """

    name: str
    brands: tuple[bytes, ...]
    advice: str


HEIC: Final = Plugin(
    name="a HEIC",
    brands=(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
    advice="pip install 'clipself[heic]' to read it",
)
AVIF: Final = Plugin(
    name="an AVIF", brands=(b"avif", b"avis"), advice="pip install 'pillow>=11.3', whose wheels read it"
)

PLUGIN_OF: Final[Mapping[str, Plugin]] = {".heic": HEIC, ".heif": HEIC, ".hif": HEIC, ".avif": AVIF}
"""Suffix -> what reading such a file may need."""

SUFFIXES: Final = frozenset(
    (
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".ppm",
        ".pgm", ".pbm", ".pnm", ".jp2", ".tga", *PLUGIN_OF,
    )
)  # fmt: skip
"""Suffixes that a folder is searched for, lower-case; some are read only where their plugin is installed."""


def is_readable(suffix: str) -> bool:
    """Whether files of one of these suffixes can be read here."""
    plugin = PLUGIN_OF[suffix]
    return find_spec("pillow_heif") is not None if plugin is HEIC else bool(features.check("avif"))


def ask_for_plugin(head: bytes) -> Plugin | None:
    """Which plugin the first bytes of a file ask for."""
    if head[4:8] != b"ftyp":
        return None
    said = {head[8:12], *(head[at : at + 4] for at in range(16, len(head), 4))}
    return next((plugin for plugin in (AVIF, HEIC) if said & set(plugin.brands)), None)


def load_plugin(plugin: Plugin) -> bool:
    """Teaches Pillow the format, once; False where it cannot be had here."""
    if plugin is AVIF:
        return bool(features.check("avif"))
    try:
        heif: Any = import_module("pillow_heif")
    except ImportError:
        return False
    heif.register_heif_opener()
    return True
