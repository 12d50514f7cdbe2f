"""What readers of other tools' formats give: the rows of a COCO instances file, each with the place it came from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from clipself.data.coco.report import Notes


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """A data set of another tool as a COCO instances file.

    Attributes:
        source: The file or folder.
        form: What the format is called.
        value: "images", "annotations" and "categories" as COCO has them; the id of a row is the place it came from.
        listed: Objects that the source lists, used or not.
        notes: What was left out, or understood in another way than written.
    """

    source: Path
    form: str
    value: dict[str, Any]
    listed: int
    notes: Notes


@dataclass(kw_only=True)
class Collector:
    """Collects pictures and objects of a data set.

    Args:
        source: The file or folder.
        form: What the format is called.
        names: Classes in their order; others are added as they come.
    """

    source: Path
    form: str
    names: list[str] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)
    listed: int = 0
    images: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ids = {name: place for place, name in enumerate(self.names, start=1)}

    def declare(self, name: str) -> int:
        """The id of a class, which is new where it was not declared before."""
        if name not in self._ids:
            self._ids[name] = len(self._ids) + 1
            self.names.append(name)
        return self._ids[name]

    def picture(self, file: str, size: tuple[int, int] | None) -> None:
        """Begins a picture; what is added next is on it.

        Args:
            file: Below the folder of pictures.
            size: Height and width, where known.
        """
        row: dict[str, Any] = {"id": len(self.images) + 1, "file_name": file}
        self.images.append(row if size is None else {**row, "height": size[0], "width": size[1]})

    def add(
        self, name: str, where: str, *, box: Sequence[float] | None = None, polygons: Any = None, crowd: bool = False
    ) -> None:
        """Adds an object to the picture that was begun last.

        Args:
            name: Its class.
            where: File and place, for messages.
            box: `xyxy` in pixels; that of the polygons if not given.
            polygons: Each x0, y0, x1, y1, ... in pixels; or run lengths.
            crowd: Whether it excuses detections and is not looked for.
        """
        row: dict[str, Any] = {"id": where, "image_id": len(self.images), "category_id": self.declare(name)}
        if polygons is not None:
            row["segmentation"] = polygons
        if box is None and isinstance(polygons, list):
            xs, ys = ([value for part in polygons for value in part[axis::2]] for axis in (0, 1))
            # The reader of rows leaves out what has no point.
            box = (min(xs), min(ys), max(xs), max(ys)) if xs else None
        if crowd:
            row["iscrowd"] = 1
        if box is not None:
            row["bbox"] = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
        self.rows.append(row)

    def finish(self) -> Converted:
        """All of it."""
        categories = [{"id": place, "name": name} for place, name in enumerate(self.names, start=1)]
        return Converted(
            source=self.source, form=self.form, listed=self.listed, notes=self.notes,
            value={"images": self.images, "annotations": self.rows, "categories": categories},
        )  # fmt: skip


def turned_box(
    left: float, top: float, right: float, bottom: float, *, about: tuple[float, float], degrees: float
) -> list[float]:
    """Corners x0, y0, x1, y1, ... of a box that was turned about a point, with the hands of a clock."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    away = [(x - about[0], y - about[1]) for x, y in corners]
    return [value for a, b in away for value in (about[0] + a * cos - b * sin, about[1] + a * sin + b * cos)]


def number(value: Any, where: str, what: str) -> float:
    """A finite number, also written as text.

    Raises:
        ValueError: It is none; the message begins with `where`.
    """
    try:
        clean = float(value) if type(value) in (int, float, str) else math.nan
    except ValueError:
        clean = math.nan
    if not math.isfinite(clean):
        raise ValueError(f"{where}: {what} is {value!r:.40}, expected a number")
    return clean


def whole_size(height: Any, width: Any, where: str) -> tuple[int, int] | None:
    """Height and width as a file gives them; None where it does not say.

    Raises:
        ValueError: They are no pixels.
    """
    if not height or not width:
        return None
    sides = number(height, where, "the height"), number(width, where, "the width")
    if any(side < 1 or side != int(side) for side in sides):
        raise ValueError(f"{where}: the size {width!r:.20} x {height!r:.20} (width x height) is none in pixels")
    return int(sides[0]), int(sides[1])


def clean_file(name: str) -> str:
    """A file name of any system with "/" between folders."""
    return str(PurePosixPath(name.replace("\\", "/")))


def below(path: Path, images: Path) -> str | None:
    """A picture by its path below a folder; None where it does not lie there."""
    path, images = Path(path).absolute(), Path(images).absolute()
    return path.relative_to(images).as_posix() if path.is_relative_to(images) else None


def find_below(images: Path | None, *candidates: str) -> str:
    """The first of some file names that is there below the folder of pictures; the last where none is."""
    if images is not None:
        for name in candidates:
            if name and not name.startswith(("/", "..")) and (images / name).is_file():
                return name
    return candidates[-1]
