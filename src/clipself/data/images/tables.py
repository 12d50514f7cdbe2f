"""Pictures in the Arrow tables that `datasets` saves: read where they lie, in any order.

`FOLDER/image/17` is the picture in row 17 of the column "image", a path that `read_image` takes as any other. The table
is mapped into memory by pyarrow; `datasets` itself is not needed.

Source of the layout: `Dataset.save_to_disk` of datasets 2 to 5: `state.json` names the files, each an Arrow stream,
`dataset_info.json` the features, of which an Image is a struct of "bytes" and "path".
"""

import hashlib
import importlib
import io
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from clipself.data.images.made import MadePictures
from clipself.files import read_json

STATE: Final = "state.json"
INFO: Final = "dataset_info.json"
SPLITS: Final = "dataset_dict.json"
COLUMN: Final = "image"
"""Taken where several columns hold pictures."""


def is_table(folder: Path) -> bool:
    """Whether a folder is a data set, or several splits of one, as `save_to_disk` leaves it."""
    return all((folder / name).is_file() for name in (STATE, INFO)) or (folder / SPLITS).is_file()


class TablePictures(MadePictures):
    """Paths of all pictures of a table, row by row, made when they are asked for.

    Args:
        folder: Of one split.

    Raises:
        ValueError: It holds splits, no picture, several columns of pictures, or is damaged.
        ImportError: pyarrow is not installed.
        FileNotFoundError: A file of it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.column = folder, column_of(folder)
        self._rows = len(open_column(str(folder), self.column))
        if not self._rows:
            raise FileNotFoundError(f"{folder} holds no images: its table has no rows")

    def __len__(self) -> int:
        return self._rows

    def name(self, index: int) -> str:
        """The column and row of a picture."""
        return f"{self.column}/{index}"

    def make(self, index: int) -> Path:
        """The path of a picture."""
        return self.folder / self.column / str(index)

    def digest(self) -> str:
        """Of the table's own fingerprint: one with other rows has another."""
        fingerprint = read_json(self.folder / STATE, what="state of a data set").get("_fingerprint")
        said = f"{fingerprint} {self.column} {len(self)}"
        return hashlib.sha256(said.encode()).hexdigest()[:16]


def table_of(path: str | Path) -> Path | None:
    """The folder of the table that a path leads into; None for a path of its own."""
    path = Path(path)
    return path.parent.parent if path.name.isdecimal() and (path.parent.parent / STATE).is_file() else None


def open_row(path: Path) -> io.BytesIO | None:
    """The bytes of a row's picture; None for a path that leads into no table.

    Raises:
        FileNotFoundError: The table has no such row or column, or the row names a file that is not there.
        ValueError: The row is empty, or the table damaged.
        ImportError: pyarrow is not installed.
    """
    folder = table_of(path)
    if folder is None:
        return None
    column = open_column(str(folder), path.parent.name)
    if int(path.name) >= len(column):
        raise FileNotFoundError(f"no image at {path}; the table of {folder} has {len(column)} rows")
    row = column[int(path.name)].as_py()
    if row is None or (row.get("bytes") is None and not row.get("path")):
        raise ValueError(f"{path} is empty; leave the row out of the table")
    if row.get("bytes") is not None:
        return io.BytesIO(row["bytes"])
    if not Path(row["path"]).is_file():
        raise FileNotFoundError(f"no image at {row['path']}, which {path} names; save the data set with its pictures")
    return io.BytesIO(Path(row["path"]).read_bytes())


def column_of(folder: Path) -> str:
    """The column that holds the pictures.

    Raises:
        ValueError: There are splits, or it cannot be told.
    """
    if (folder / SPLITS).is_file():
        splits = read_json(folder / SPLITS).get("splits", [])
        raise ValueError(
            f"{folder} holds the splits {', '.join(splits)}; pass one, such as {folder / (splits or ['train'])[0]}"
        )
    features = read_json(folder / INFO, what="features of a data set").get("features") or {}
    columns = [name for name, kind in features.items() if isinstance(kind, dict) and kind.get("_type") == "Image"]
    if not columns or (len(columns) > 1 and COLUMN not in columns):
        raise ValueError(
            f"{folder} has {'several columns' if columns else 'no column'} of pictures among {', '.join(features)}; "
            f"save one with a single column of the feature datasets.Image, or call it {COLUMN!r}"
        )
    return COLUMN if COLUMN in columns else columns[0]


@lru_cache(maxsize=8)
def open_column(folder: str, name: str) -> Any:
    """A column of a table, mapped: an Arrow array of structs.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: A file is damaged.
        FileNotFoundError: A file, or the column, is missing.
    """
    try:
        arrow: Any = importlib.import_module("pyarrow")
        ipc: Any = importlib.import_module("pyarrow.ipc")
    except ImportError:
        raise ImportError(f"{folder} is an Arrow table; pip install 'clipself[arrow]' to read it") from None
    state = read_json(Path(folder) / STATE, what="state of a data set")
    parts = []
    for file in state.get("_data_files", ()):
        path = Path(folder) / file["filename"]
        if not path.is_file():
            raise FileNotFoundError(f"no file at {path}, which {Path(folder) / STATE} names; copy the folder again")
        try:
            with ipc.open_stream(arrow.memory_map(str(path))) as stream:
                parts.append(stream.read_all())
        except arrow.ArrowInvalid as error:
            raise ValueError(f"{path} is damaged ({str(error).splitlines()[0]}); copy it again") from error
    if not parts or name not in parts[0].column_names:
        raise FileNotFoundError(f"no column {name!r} in the table of {folder}")
    return arrow.concat_tables([part.select([name]) for part in parts]).column(0)
