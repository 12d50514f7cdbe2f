"""What every `predict` does alike: reads pictures one by one, goes past broken ones, keeps what is done on disk.

A folder of predictions holds `pictures/` (drawings), `maps/` where there are maps, `results.json` (the answer to each
picture, and what was listed, read and left out) and `coco.json`.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image
from tqdm import tqdm

from clipself.data.images import FoundPictures, read_image
from clipself.files import write_atomically, write_json

log = logging.getLogger(__name__)

SAVING_SHARE: Final = 0.05
"""Most of the time that may go into writing what is done so far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedPicture:
    """One picture that can be read.

    Attributes:
        image: RGB.
        path: Its file.
        file: Its path below what was searched; see `FoundPicture`.
        name: Of what is made of it, without suffix; see `FoundPicture`.
        number: Its place among all that were listed, from 1.
    """

    image: Image.Image
    path: Path
    file: str
    name: str
    number: int


@dataclass(kw_only=True, slots=True)
class Predictions:
    """Answers to pictures, and pictures without one.

    Attributes:
        out: Folder of the results.
        found: What was listed.
        head: Values at the top of `results.json`, such as the names.
        rows: One answer for each picture that was read.
        left_out: Path and reason of each that was not.
    """

    out: Path
    found: FoundPictures
    head: Mapping[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The JSON."""
        return self.out / "results.json"

    def write(self) -> Path:
        """Writes the JSON as far as it is; "complete" tells whether every picture has been looked at."""
        held = {
            **self.head,
            "listed": len(self.found),
            "read": len(self.rows),
            "passed_over": dict(self.found.passed_over),
            "left_out": self.left_out,
            "complete": len(self.rows) + len(self.left_out) == len(self.found),
            "images": self.rows,
        }
        return write_json(self.path, held)

    def describe(self) -> str:
        """One line: how many pictures have an answer."""
        said = f"{len(self.rows)} of {len(self.found)} pictures, {self.path}"
        return f"{said} tells why {len(self.left_out)} are left out" if self.left_out else said


def predict_pictures(
    found: FoundPictures,
    out: str | Path,
    answer: Callable[[OpenedPicture], Mapping[str, Any]],
    *,
    head: Mapping[str, Any],
    save: Callable[[], object] | None = None,
) -> Predictions:
    """Asks for an answer to each picture; one that is broken or cannot be answered is left out with a warning.

    What is done is on disk as it is made: `results.json` is whole at any time, and written again as often as costs no
    more than `SAVING_SHARE` of the time; also when the run is stopped.

    Args:
        found: Pictures.
        out: Folder, made when missing.
        answer: Writes what belongs to a picture, and returns its row, whose values are plain.
        head: Values at the top of `results.json`.
        save: Writes further files of all pictures so far, as often as `results.json`.

    Returns:
        What was answered and what was left out.

    Raises:
        ValueError: No picture at all could be answered.
        OSError: The disk is full or the folder cannot be written.
    """
    kept = Predictions(out=Path(out), found=found, head=head)
    due = 0.0
    try:
        for number, one in enumerate(tqdm(found, unit="image", disable=len(found) < 2, leave=False), start=1):
            try:
                image = read_image(one.path)
                opened = OpenedPicture(image=image, path=one.path, file=one.file, name=one.name, number=number)
                kept.rows.append({"image": str(one.path), **answer(opened)})
            except (ValueError, FileNotFoundError, MemoryError, RuntimeError) as error:
                if isinstance(error, RuntimeError) and not _is_out_of_memory(error):
                    raise
                reason = _reason(error, one.path)
                log.warning("%s; it is left out", reason)
                kept.left_out.append({"image": str(one.path), "reason": reason})
            if time.monotonic() >= due:
                due = _timed(kept, save)
    finally:
        _timed(kept, save)
    if not kept.rows:
        said = kept.left_out[0]["reason"] if kept.left_out else "there are none"
        raise ValueError(said if len(found) == 1 else f"none of {len(found)} pictures has an answer; the first: {said}")
    if kept.left_out:
        log.warning("%s", kept.describe())
    return kept


def write_drawing(out: Path, name: str, picture: Image.Image) -> str:
    """Writes the drawing of a picture, atomically; returns its path relative to the folder of predictions."""
    file = f"pictures/{name}.png"
    write_atomically(out / file, lambda part: picture.save(part, format="PNG"))
    return file


def _timed(kept: Predictions, save: Callable[[], object] | None) -> float:
    """Writes all; returns when to write again."""
    begun = time.monotonic()
    kept.write()
    if save is not None:
        save()
    ended = time.monotonic()
    return ended + (ended - begun) / SAVING_SHARE


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "alloc" in str(error)  # the CPU has no class of its own


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, MemoryError | RuntimeError):
        return f"{path} needs more memory than there is"
    said = str(error)
    return said if str(path) in said else f"{path}: {said}"
