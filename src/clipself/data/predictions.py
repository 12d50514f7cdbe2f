"""What every `predict` leaves, on disk as it is made: drawings, maps, one JSON of results, one COCO file."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from clipself.data.coco.write import category_rows, image_row
from clipself.data.images import FoundPicture, FoundPictures, write_index_map
from clipself.data.kept import Kept
from clipself.files import Together, write_atomically

log = logging.getLogger(__name__)

PACKED: Final = 3
"""How hard drawings are packed, of 9: half of the usual time for 2 % more bytes."""
SAVING_SHARE: Final = 0.05
"""Most of the time that may go into writing the JSON files of what is done so far."""


class PredictionFolder:
    """`pictures/NAME.png`, `maps/NAME.png` where there are maps, `results.json` and `coco.json`.

    The JSON files are whole at any time, written again as often as costs no more than `SAVING_SHARE` of the time, and
    whatever ends the command. A picture that cannot be read or answered is left out, with a warning and its reason::

        with PredictionFolder(out, find_pictures(images), names) as folder:
            for picture, image in folder.read():
                with folder.attempt(picture):
                    found = ...
                    folder.add(picture, image, draw(image, found), found={"classes": ...}, rows=coco_rows)

    Args:
        out: The folder; made when missing.
        listed: The pictures.
        names: Class names; the categories of the COCO file are numbered from 1 in this order.
        head: Further values at the top of `results.json`.
        more: Writes further files of all pictures so far, as often as the JSON.
    """

    def __init__(
        self,
        out: str | Path,
        listed: FoundPictures,
        names: Sequence[str],
        *,
        head: Mapping[str, Any] | None = None,
        more: Callable[[], object] | None = None,
    ) -> None:
        self.out, self.listed, self.names, self.more = Path(out), listed, tuple(names), more
        self.head = {"names": list(names), **(head or {})}
        self.left_out: list[dict[str, str]] = []
        self.drawings = Kept[Path](self.out)
        self.rows = Kept[dict[str, Any]](self.out)
        self._images = Kept[dict[str, Any]](self.out)
        self._annotations = Kept[dict[str, Any]](self.out)
        self._files = Together()
        self._due = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.write()
        if error is not None:
            return
        if not self.rows:
            first = self.left_out[0]["reason"] if self.left_out else "there are none"
            count = len(self.listed)
            raise ValueError(first if count == 1 else f"none of {count} pictures has an answer; the first: {first}")
        if self.left_out:
            log.warning("%s", self.describe())

    @property
    def results(self) -> Path:
        """What was found in each picture, and what was left out."""
        return self.out / "results.json"

    @property
    def coco(self) -> Path:
        """The same in COCO's form."""
        return self.out / "coco.json"

    def read(self) -> Iterator[tuple[FoundPicture, Image.Image]]:
        """The pictures that can be read, one after another."""
        for picture in tqdm(self.listed, unit="image", disable=len(self.listed) < 2, leave=False):
            image = None
            with self.attempt(picture):
                image = picture.read()
            if image is not None:
                yield picture, image

    @contextmanager
    def attempt(self, picture: FoundPicture) -> Iterator[None]:
        """Leaves a picture out where what is tried fails for it: it is damaged, does not fit, or needs too much memory.

        Everything else is passed on: a full disk, or a defect.
        """
        with leaving_out(
            picture.path, lambda reason: self.left_out.append({"image": str(picture.path), "reason": reason})
        ):
            yield
        if time.monotonic() >= self._due:
            self.write()

    def add(
        self,
        picture: FoundPicture,
        image: Image.Image,
        drawing: Image.Image,
        *,
        found: Mapping[str, Any],
        rows: Sequence[Mapping[str, Any]] = (),
        labels_HW: NDArray[np.integer] | None = None,
    ) -> None:
        """Writes one picture's drawing and map, which have their names as the JSON files do, and takes its results.

        Args:
            picture: One of `read`.
            image: And its pixels.
            drawing: The picture with what was found.
            found: What `results.json` says of it.
            rows: COCO rows without ids, of categories from 1 on.
            labels_HW: Class of every pixel, for `maps/`.
        """
        record = {"image": str(picture.path), "file": picture.file}
        record["picture"] = f"pictures/{picture.name}.png"
        self._files.write(
            self.out / record["picture"], lambda part: drawing.save(part, format="PNG", compress_level=PACKED)
        )
        if labels_HW is not None:
            record["map"] = f"maps/{picture.name}.png"
            write_index_map(self.out / record["map"], labels_HW, self._files)
        self.drawings.append(self.out / record["picture"])
        self.rows.append({**record, **found})
        number, first = len(self.rows), len(self._annotations) + 1
        self._images.append(image_row(number, picture.file, (image.height, image.width)))
        for place, row in enumerate(rows, start=first):
            self._annotations.append({"id": place, **row, "image_id": number})

    @property
    def number(self) -> int:
        """Id that the next picture gets in the COCO file."""
        return len(self.rows) + 1

    def write(self) -> None:
        """Writes the JSON files as far as they are; "complete" tells whether every picture has been looked at."""
        begun = time.monotonic()
        self._files.flush()  # the JSON files name them
        held = {
            **self.head,
            "listed": len(self.listed),
            "read": len(self.rows),
            "passed_over": dict(self.listed.passed_over),
            "left_out": self.left_out,
            "complete": len(self.rows) + len(self.left_out) == len(self.listed),
        }
        coco = {"images": self._images, "annotations": self._annotations, "categories": category_rows(self.names)}
        write_rows(self.results, {**held, "images": self.rows}, indent=2)
        write_rows(self.coco, coco)
        if self.more is not None:
            self.more()
        ended = time.monotonic()
        self._due = ended + (ended - begun) / SAVING_SHARE

    def describe(self) -> str:
        """One line: what was read, what was left out, and where the results are."""
        count = f"{len(self.rows)} of {len(self.listed)}" if self.left_out else str(len(self.listed))
        bad = f", {len(self.left_out)} left out (see {self.results.name})" if self.left_out else ""
        return f"{count} pictures{bad}: {self.out / 'pictures'}, {self.results}, {self.coco}"


def write_rows(path: Path, value: Mapping[str, Any], *, indent: int | None = None) -> Path:
    """Writes a table as `json.dumps` would, atomically, its lists row by row.

    Args:
        path: The file.
        value: Name -> anything; of lists on disk one row at a time is in memory.
        indent: Of nested values, in spaces; everything stands in a line if not given.
    """
    ends = "" if indent is None else "\n"

    def lines(value: Any, depth: int) -> str:
        return json.dumps(value, indent=indent).replace("\n", "\n" + " " * depth * (indent or 0))

    def before(place: int, depth: int) -> str:
        return ("," + (ends or " ") if place else ends) + " " * depth * (indent or 0)

    def fill(part: Path) -> None:
        with part.open("w", encoding="utf-8") as stream:
            stream.write("{")
            for place, (name, held) in enumerate(value.items()):
                stream.write(f"{before(place, 1)}{json.dumps(name)}: ")
                if not isinstance(held, Kept) or not held:
                    stream.write(lines(list(held) if isinstance(held, Kept) else held, 1))
                    continue
                stream.write("[")
                for row in range(len(held)):
                    stream.write(before(row, 2) + lines(held[row], 2))
                stream.write(before(0, 1) + "]")
            stream.write(ends + "}" + ends)

    return write_atomically(path, fill)


@contextmanager
def leaving_out(path: Path, take: Callable[[str], object]) -> Iterator[None]:
    """Leaves a picture out where what is tried fails for it: it is damaged, does not fit, or needs too much memory.

    Args:
        path: Its file, for the warning.
        take: Is given the reason.
    """
    try:
        yield
    except (ValueError, FileNotFoundError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _is_out_of_memory(error):
            raise
        reason = _reason(error, path)
        log.warning("%s; it is left out", reason)
        take(reason)


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "alloc" in str(error)  # the CPU has no class of its own


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, MemoryError | RuntimeError):
        return f"{path} needs more memory than there is"
    said = str(error)
    return said if str(path) in said else f"{path}: {said}"
