"""Labelled pictures on their way into files: one line of JSON each, so that millions of them need no memory."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipself.ops.outlines import Ring, outline
from clipself.ops.run_lengths import fill_runs, read_run_lengths


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledObject:
    """One object of a picture.

    Attributes:
        label: Place of its class among the names.
        box: `xyxy` in pixels.
        score: In [0, 1]; None where a person drew it.
        mask: COCO run lengths of the whole picture; None where it is a box alone.
    """

    label: int
    box: tuple[float, float, float, float]
    score: float | None = None
    mask: dict[str, Any] | None = None

    @property
    def area(self) -> float:
        """Of the mask, else of the box, in pixels."""
        if self.mask is not None:
            return float(read_run_lengths(self.mask)[0][1::2].sum())
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])

    def decode(self) -> NDArray[np.bool_]:
        """Its mask (H, W).

        Raises:
            ValueError: It has none.
        """
        if self.mask is None:
            raise ValueError("this object is a box and has no mask")
        return fill_runs(*read_run_lengths(self.mask))

    def polygon(self, tolerance: float) -> Ring | None:
        """Its mask as one polygon (N, 2) in pixels, parts and holes joined by bridges; None where it is a box.

        Args:
            tolerance: How far its border may move, in pixels.
        """
        return None if self.mask is None else outline(self.decode(), tolerance=tolerance)


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledPicture:
    """A picture and its objects, best first.

    Attributes:
        file: Its path below the folder of pictures, "/" between folders.
        path: Where it lies.
        size: Height and width in pixels.
        objects: What is on it.
    """

    file: str
    path: Path
    size: tuple[int, int]
    objects: tuple[LabelledObject, ...]

    def to_line(self) -> str:
        """One line of JSON."""
        objects = [
            {
                "label": one.label,
                "box": list(one.box),
                **({} if one.score is None else {"score": one.score}),
                **({} if one.mask is None else {"mask": one.mask}),
            }
            for one in self.objects
        ]
        return json.dumps({"file": self.file, "path": str(self.path), "size": list(self.size), "objects": objects})

    @classmethod
    def from_line(cls, line: str) -> "LabelledPicture":
        """Reads what `to_line` gave."""
        held = json.loads(line)
        objects = [
            LabelledObject(label=row["label"], box=tuple(row["box"]), score=row.get("score"), mask=row.get("mask"))
            for row in held["objects"]
        ]
        height, width = held["size"]
        return cls(file=held["file"], path=Path(held["path"]), size=(height, width), objects=tuple(objects))


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """What a format is written of.

    Attributes:
        pictures: May be gone through several times; one picture after another is in memory.
        names: Class names, by label.
        tolerance: How far the border of a polygon may move from that of its mask, in pixels; 0 keeps every pixel.
        url: What stands ahead of file names where a tool asks a server for pictures.
        copy: Whether pictures are copied where a format holds them; else there are links to them.
        model: What found the objects, for formats that tell.
    """

    pictures: Iterable[LabelledPicture]
    names: tuple[str, ...]
    tolerance: float = 1.0
    url: str = "/data/local-files/?d="
    copy: bool = False
    model: str = ""

    def __iter__(self) -> Iterator[LabelledPicture]:
        return iter(self.pictures)
