"""Tables of paths and captions: tab-separated, comma-separated, an object a line, or a list of objects."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from clipself.data.coco.report import Notes, ReadReport
from clipself.files import read_json, read_text
from clipself.ops.run_lengths import shorten

PATHS: Final = (
    "filepath", "file_path", "path", "image", "image_path", "image_name", "file_name", "filename", "file", "img",
)  # fmt: skip
"""What a column of paths may be called."""
HEADERS: Final = ("caption", "title", "text", "comment", "captions", "sentence")
"""What a column of captions may be called."""
DELIMITERS: Final = (",", "\t", ";", "|")
"""What may stand between the columns of a .csv, told by its first line."""

Row = tuple[str, str, Sequence[str]]
"""How messages name it, its path, its captions."""


def read_table(path: Path, folder: Path) -> dict[str, list[str]]:
    """The captions of each path, in the order of the table; captions without a word are left out with one.

    Args:
        path: A file whose suffix is a row of `FORMS`.
        folder: That paths are relative to.

    Raises:
        ValueError: A row is not a path and a caption, or a title names no such columns.
    """
    return read_rows(path, FORMS[path.suffix.lower()](path, folder), folder)


def read_rows(path: Path, rows: Iterable[Row], folder: Path) -> dict[str, list[str]]:
    """The captions of each path, as `read_table` gives them."""
    captions: dict[str, list[str]] = {}
    notes, listed = Notes(), 0
    for place, name, said in rows:
        listed += 1
        file = name.strip().replace("\\", "/")
        if re.search(r"#\d+$", file) and not (folder / file).is_file():  # Flickr numbers the captions of a picture
            file = file.rpartition("#")[0]
        if not file:
            raise ValueError(f"{path}: {place} has no path beside {shorten(said)}")
        kept = [one.strip() for one in said if one.strip()]
        if not kept:
            notes.add("captions without a word left out", place)
        else:
            captions.setdefault(file, []).extend(kept)
    pairs = sum(map(len, captions.values()))
    ReadReport(
        source=str(path), kind="captions", listed={"rows": listed}, read={"rows": pairs}, remarks=notes.remarks()
    ).tell()
    return captions


def _lines(path: Path) -> list[str]:
    """Lines as a table ends them; captions out of the web hold other breaks (U+2028, U+0085), which end none."""
    return list(io.StringIO(read_text(path), newline=""))


def _tabs(path: Path, folder: Path) -> Iterator[Row]:
    """A path, a tab and a caption a line; a first line that names the columns may name others beside them."""
    columns: tuple[int, int] | None = None
    for number, line in enumerate(_lines(path), start=1):
        line = line.rstrip("\r\n")
        cells = line.split("\t")
        if number == 1 and not (folder / cells[0].strip()).is_file():
            columns = find_columns(cells)
            if columns or (len(cells) == 2 and cells[1].strip().lower() in HEADERS):
                continue
        if not line.strip():
            continue
        wanted = 2 if columns is None else max(columns) + 1
        if len(cells) < wanted or not cells[columns[0] if columns else 0].strip():
            raise ValueError(f"{path}: line {number} is {shorten(line)}, expected a path, a tab and a caption")
        name, said = (cells[0], "\t".join(cells[1:])) if columns is None else (cells[columns[0]], cells[columns[1]])
        yield f"line {number}", name, [said]


def _commas(path: Path, folder: Path) -> Iterator[Row]:
    """Columns that the first line names, cells with commas or line breaks in quotes."""
    del folder
    lines = _lines(path)
    for delimiter in DELIMITERS:
        table = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        columns = find_columns(next(table, []))
        if columns is not None:
            break
    else:
        title = lines[0].rstrip() if lines else ""
        raise ValueError(
            f"{path} begins with {shorten(title, most=80)}, expected the names of its columns, one of {PATHS} and one "
            f"of {HEADERS}, such as filepath,title"
        )
    try:
        for cells in table:
            if not any(map(str.strip, cells)):
                continue
            if len(cells) <= max(columns):
                raise ValueError(f"{path}: line {table.line_num} is {shorten(cells)}, expected a path and a caption")
            yield f"line {table.line_num}", cells[columns[0]], [cells[columns[1]]]
    except csv.Error as error:
        raise ValueError(f"{path}: line {table.line_num} cannot be read ({error}); is a quote not closed?") from None


def _objects(path: Path, folder: Path) -> Iterator[Row]:
    """An object a line."""
    del folder
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            held = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}: line {number} is not JSON ({error})") from None
        yield _of_object(path, f"line {number}", held)


def rows_of_list(path: Path) -> Iterable[Row] | None:
    """Rows of a JSON list of objects with a path and a caption; None where the file is another."""
    value = read_json(path)
    if not isinstance(value, list) or not value or not isinstance(value[0], Mapping) or "image_id" in value[0]:
        return None
    if not any(key in value[0] for key in PATHS) or not any(key in value[0] for key in HEADERS):
        return None
    return (_of_object(path, f"row {number}", held) for number, held in enumerate(value))


def begins_with(path: Path) -> str:
    """The first sign of a text file; "" where it has none."""
    with path.open("rb") as held:
        return held.read(64).decode("utf-8-sig", errors="replace").lstrip()[:1]


def _of_object(path: Path, place: str, held: Any) -> Row:
    names = [held[key] for key in PATHS if key in held] if isinstance(held, Mapping) else []
    said = [held[key] for key in HEADERS if key in held] if isinstance(held, Mapping) else []
    given = said[0] if said else None
    captions = [] if given is None else [given] if isinstance(given, str) else given  # null is a cell left empty
    if not names or not isinstance(names[0], str) or not said:
        raise ValueError(
            f"{path}: {place} is {shorten(held)}, expected an object with one of {PATHS} and one of {HEADERS}"
        )
    if not isinstance(captions, list) or not all(isinstance(one, str) for one in captions):
        raise ValueError(f"{path}: {place} has the caption {shorten(captions)}, expected text or a list of texts")
    return place, names[0], captions


def find_columns(title: Sequence[str]) -> tuple[int, int] | None:
    """Places of the paths and of the captions in a line of titles; None where it names neither."""
    cells = [cell.strip().strip('"').lower() for cell in title]
    paths, captions = ([cells.index(name) for name in names if name in cells] for names in (PATHS, HEADERS))
    return (paths[0], captions[0]) if paths and captions else None


FORMS: Final[Mapping[str, Callable[[Path, Path], Iterator[Row]]]] = {
    ".tsv": _tabs, ".csv": _commas, ".jsonl": _objects, ".ndjson": _objects,
}  # fmt: skip
"""Suffix of a table -> its reader."""
