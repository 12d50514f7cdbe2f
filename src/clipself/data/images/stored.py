"""Names of pictures in either form of Unicode."""

import os
import unicodedata
from pathlib import Path


def as_stored(path: Path) -> Path:
    """A path by the name that its file has on the disk: an accented letter is one sign or two (NFC, NFD).

    Archives of macOS unpack to the one, lists that were written elsewhere say the other; both look alike.
    """
    if str(path).isascii() or os.path.isfile(path):
        return path
    named = [(path.parent, path.name), (Path(), str(path))]  # the folder as it is said, then the whole path
    others = (folder / unicodedata.normalize(form, name) for folder, name in named for form in ("NFC", "NFD"))
    return next((other for other in others if os.path.isfile(other)), path)
