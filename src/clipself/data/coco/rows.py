"""Pictures and classes of a COCO-like file, checked row by row; every message names file, row and field."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from clipself.data.coco.kinds import Opened, rows_of
from clipself.data.coco.report import Notes, ReadReport
from clipself.ops.run_lengths import LARGEST_SIDE, shorten
from clipself.text.templates import spoken_name

Id = int | str
"""What a file counts its rows by."""

FARTHEST: Final = float(LARGEST_SIDE)
"""No corner lies farther out, in pixels."""


BACKGROUND: Final = ("background", "bg", "void", "unlabeled", "unlabelled", "ignore", "ignored", "n/a")
"""What tools call the rest of a picture; no class where no row is of it."""

MEANINGLESS: Final = re.compile(r"(?:class|category|label|object|id)?[ _-]*\d+", re.IGNORECASE)
"""Names that tools give where nobody has typed one."""


@dataclass(frozen=True, slots=True)
class CocoImage:
    """A picture that a file lists.

    Attributes:
        id: The file's own.
        file: Where it lies below the folder of pictures.
        size: Height and width as listed; None where the file does not say.
        row: Place in the file's list.
        negative: Classes that were looked for and not found (LVIS); None where the file does not say.
        partial: Classes that are annotated in part (LVIS).
    """

    id: Id
    file: str
    size: tuple[int, int] | None
    row: int
    negative: tuple[Id, ...] | None = None
    partial: tuple[Id, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Category:
    """A class that a file lists.

    Attributes:
        id: The file's own.
        name: As it is spelled there.
        is_thing: Things True, stuff False.
        frequency: "r", "c" or "f" as in LVIS; "" where unknown.
        row: Place in the file's list.
    """

    id: Id
    name: str
    is_thing: bool
    frequency: str
    row: int


def place(source: str, part: str, row: int, held: Any = None) -> str:
    """How messages name a row."""
    own = held.get("id") if isinstance(held, Mapping) else None
    named = f"row {row}" if part == "row" else f"{part}[{row}]"  # lists have no name
    return f"{source}: {named}" + (f" (id {shorten(own)})" if own is not None else "")


def refuse(source: str, part: str, row: int, held: Any, why: str) -> NoReturn:
    """Raises the error of a row.

    Raises:
        ValueError: Always.
    """
    raise ValueError(f"{place(source, part, row, held)}: {why}")


def whole(value: Any) -> int | None:
    """A whole number, also one written as 3.0; None for anything else."""
    if type(value) is int:
        return value
    return int(value) if type(value) is float and math.isfinite(value) and value == int(value) else None


def clean_id(value: Any) -> Id | None:
    """A number or text by which rows can be told apart; None for anything else."""
    return value if type(value) is str else whole(value)


def clean_flag(value: Any) -> bool | None:
    """0, 1, true, false, or nothing, which is 0; None for anything else."""
    if value is None:
        return False
    return bool(value) if type(value) in (bool, int, float) and value in (0, 1) else None


def clean_number(value: Any) -> float | None:
    """A number that is finite and not beyond any picture's area; None for anything else."""
    if type(value) not in (int, float) or not abs(value) <= FARTHEST * FARTHEST:
        return None
    return float(value)


def clean_box(box: Any) -> tuple[float, float, float, float] | str:
    """Four numbers, or what is wrong with them."""
    if not isinstance(box, list | tuple) or len(box) != 4:
        return f'its "bbox" is {shorten(box)}, expected [x, y, width, height]'
    for value in box:
        if type(value) not in (int, float):
            return f'its "bbox" holds {shorten(value)}, expected four numbers'
        if not abs(value) <= FARTHEST:  # NaN too
            return f'its "bbox" {shorten(box, most=80)} is not finite or beyond any picture'
    x, y, width, height = box
    if width < 0 or height < 0:
        return f'its "bbox" {shorten(box, most=80)} has swapped corners (negative width or height)'
    return float(x), float(y), float(width), float(height)


def file_name_of(row: Mapping[str, Any]) -> str | None:
    """`file_name` with forward slashes, or the last two parts of `coco_url` as LVIS needs; None where there is none."""
    name, url = row.get("file_name"), row.get("coco_url")
    if isinstance(name, str) and name.strip() and "\0" not in name:
        return name.replace("\\", "/")
    if name is None and isinstance(url, str) and url.strip("/"):
        return "/".join(url.split("/")[-2:])
    return None


def read_images(opened: Opened, notes: Notes) -> tuple[CocoImage, ...]:
    """The pictures of a file, each once.

    Raises:
        ValueError: A row is no object, or its id, file name or size cannot be meant.
    """
    found: dict[Id, CocoImage] = {}
    files: dict[str, Id] = {}
    for row, held in enumerate(rows_of(opened, "images")):
        image = _read_image(opened.source, row, held)
        before = found.get(image.id)
        if before is None:
            found[image.id] = image
            if image.file in files:
                notes.add("pictures are listed under a second id", place(opened.source, "images", row, held))
            files.setdefault(image.file, image.id)
        elif before.file == image.file:
            notes.add("pictures listed twice, counted once", f"images[{row}]")
        else:
            refuse(opened.source, "images", row, held,
                   f"has the id of images[{before.row}], which is another file ({before.file})")  # fmt: skip
    return tuple(found.values())


def _read_image(source: str, row: int, held: Any) -> CocoImage:
    if not isinstance(held, Mapping):
        refuse(source, "images", row, held, f"is {shorten(held)}, expected an object")
    identity, file = clean_id(held.get("id")), file_name_of(held)
    if identity is None:
        refuse(source, "images", row, held, f'its "id" is {shorten(held.get("id"))}, expected a number or text')
    if file is None:
        refuse(source, "images", row, held, f'its "file_name" is {shorten(held.get("file_name"))}, expected text')
    lists = [_read_ids(source, row, held, key) for key in ("neg_category_ids", "not_exhaustive_category_ids")]
    return CocoImage(identity, file, _read_size(source, row, held), row, *lists)


def _read_size(source: str, row: int, held: Mapping[str, Any]) -> tuple[int, int] | None:
    sides = held.get("height"), held.get("width")
    if any(side is None or (type(side) in (int, float) and side == 0) for side in sides):
        return None  # tools that do not know it write 0 or null
    clean = [whole(side) for side in sides]
    for name, side, given in zip(("height", "width"), clean, sides, strict=True):
        if side is None or not 0 < side <= LARGEST_SIDE:
            refuse(source, "images", row, held, f'its "{name}" is {shorten(given)}, expected pixels')
    height, width = clean
    assert height is not None
    assert width is not None
    return height, width


def _read_ids(source: str, row: int, held: Mapping[str, Any], key: str) -> tuple[Id, ...] | None:
    given = held.get(key)
    if given is None:
        return None
    ids = [clean_id(value) for value in given] if isinstance(given, list) else [None]
    if None in ids:
        refuse(source, "images", row, held, f'its "{key}" is {shorten(given)}, expected a list of class ids')
    return tuple(value for value in ids if value is not None)


def describe_images(opened: Opened, images: Sequence[CocoImage], notes: Notes) -> ReadReport:
    """The report of a reader that wants pictures alone."""
    counts = {"pictures": len(images)}
    return ReadReport(source=opened.source, kind=opened.kind, listed=counts, read=counts, remarks=notes.remarks())


def check_picture_size(image: CocoImage, size: tuple[int, int], *, source: str) -> None:
    """Refuses a picture that is not of the listed size: its boxes and masks were drawn on another one.

    Args:
        image: As listed.
        size: Height and width of the picture itself.
        source: The file, for the message.

    Raises:
        ValueError: The sizes differ.
    """
    if image.size is not None and image.size != size:
        cause = "does its EXIF tag turn it?" if image.size == size[::-1] else "was it resized after it was annotated?"
        raise ValueError(
            f"{source}: images[{image.row}] {image.file} is listed as {image.size[0]} x {image.size[1]} pixels (height "
            f"x width), the picture is {size[0]} x {size[1]}; {cause}"
        )


def read_categories(opened: Opened, used: set[Any], notes: Notes) -> tuple[Category, ...]:
    """The classes of a file in the order of their ids.

    A class that nothing uses and that is only the group of others, as labelling tools export it, or the background, is
    no class.

    Args:
        opened: The file.
        used: Ids of classes that some row names.
        notes: Takes what is left out.

    Raises:
        ValueError: A row is no object, its id or name cannot be meant, or two classes share one.
    """
    source, found = opened.source, dict[Id, Category]()
    rows = rows_of(opened, "categories")
    groups = {
        row["supercategory"]
        for row in rows
        if isinstance(row, Mapping)
        and isinstance(row.get("supercategory"), str)
        and row["supercategory"] != row.get("name")
    }
    for row, held in enumerate(rows):
        category = _read_category(source, row, held)
        before = found.get(category.id)
        if before is not None and before.name != category.name:
            refuse(source, "categories", row, held,
                   f"{category.name!r} has the id of {before.name!r}; each class needs its own")  # fmt: skip
        if before is not None:
            notes.add("classes listed twice, counted once", f"categories[{row}]")
        elif category.id not in used and spoken_name(category.name).lower().strip() in BACKGROUND:
            notes.add("name of what is no thing, used by no row, is no class", repr(category.name))
        elif category.id not in used and category.name in groups:
            notes.add("group of other classes (supercategory), used by no row, is no class", repr(category.name))
        else:
            found[category.id] = category
    if found and all(MEANINGLESS.fullmatch(one.name.strip()) for one in found.values()):
        for category in found.values():
            notes.add("classes are numbered, not named, which no text can mean", repr(category.name))
    return _own_names(source, in_order_of_ids(list(found.values())), used, notes)


def _own_names(source: str, found: list[Category], used: set[Any], notes: Notes) -> tuple[Category, ...]:
    """Of classes of one name the one that is used."""
    by_name: dict[str, list[Category]] = {}
    for category in found:
        by_name.setdefault(category.name, []).append(category)
    dropped: set[Id] = set()
    for name, same in by_name.items():
        there = [category for category in same if category.id in used] or same[:1]
        if len(there) > 1:
            both = f"the classes {there[0].id!r} and {there[1].id!r} are both named {name!r}; give them one id"
            refuse(source, "categories", there[1].row, None, both)
        for category in same:
            if category is not there[0]:
                dropped.add(category.id)
                notes.add("classes of the name of another, used by no row, left out", f"categories[{category.row}]")
    return tuple(category for category in found if category.id not in dropped)


def _read_category(source: str, row: int, held: Any) -> Category:
    if not isinstance(held, Mapping):
        refuse(source, "categories", row, held, f"is {shorten(held)}, expected an object")
    identity, name, thing = clean_id(held.get("id")), held.get("name"), held.get("isthing", 1)
    if identity is None:
        refuse(source, "categories", row, held, f'its "id" is {shorten(held.get("id"))}, expected a number or text')
    if not isinstance(name, str) or not name.strip():
        refuse(source, "categories", row, held, f'its "name" is {shorten(name)}, expected text')
    is_thing = clean_flag(1 if thing is None else thing)
    if is_thing is None:
        refuse(source, "categories", row, held, f'its "isthing" is {shorten(thing)}, expected 0 or 1')
    letter = held.get("frequency")
    return Category(
        id=identity, name=name, is_thing=is_thing, frequency=letter if letter in ("r", "c", "f") else "", row=row
    )


def in_order_of_ids(categories: Sequence[Category]) -> list[Category]:
    """By number where ids are numbers, also written as text; else as listed."""
    numbers = [int(one.id) if str(one.id).isdecimal() else None for one in categories]
    if any(number is None for number in numbers):
        if all(type(one.id) is int for one in categories):
            return sorted(categories, key=lambda one: int(one.id))
        return list(categories)
    return sorted(categories, key=lambda one: int(one.id))


def say_unlisted(identity: Any, listed: Sequence[Id], *, what: str) -> str:
    """That an id is not listed, and which there are."""
    texts = {str(one) for one in listed}
    kind = "text" if isinstance(identity, str) else "a number"
    if str(identity) in texts:
        return f"its {what} {shorten(identity)} is {kind}, the ids that the file lists are not"
    shown = ", ".join(shorten(one) for one in listed[:4]) + (", ..." if len(listed) > 4 else "")
    return f"its {what} {shorten(identity)} is not listed in the file (there are {shown or 'none'})"
