"""Trained heads that ship with the package, by name, on the packaged CLIP; `recipes/mini_heads` makes them."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Final

from clipself.cards import read_card

_HERE: Final = Path(__file__).parent / "mini_heads"

PACKAGED_HEADS: Final[Mapping[str, Path]] = {
    "clipself-mini-detector": _HERE / "detector",
    "clipself-mini-masks": _HERE / "masks",
}
"""Name -> folder, as `head_folder.save_heads` writes it."""


def heads_folder(source: str | Path) -> Path:
    """The folder of packaged heads by their name; any other is a folder itself.

    Raises:
        ValueError: It is neither text nor a path.
    """
    if not isinstance(source, str | PathLike):
        raise ValueError(f"checkpoint={source!r:.60} is of type {type(source).__name__}, expected a folder or a name")
    return PACKAGED_HEADS.get(str(source), Path(source))


def about_heads(source: str | Path | None) -> str:
    """A line that says what packaged heads are and what to expect of them; empty for all others."""
    folder = PACKAGED_HEADS.get(str(source))
    if folder is None:
        return ""
    (card,) = folder.glob("*.json")
    return f"{source}: {read_card(card)['summary']}"
