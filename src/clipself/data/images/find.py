"""Which pictures a list of files and folders holds, and what else lies there."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from PIL import Image
from torch import Tensor

from clipself.data.images.folder import FolderPictures, nothing_found, search, told
from clipself.data.images.inside import is_there
from clipself.data.images.names import distinct_names, relative_files
from clipself.data.images.read import Picture, list_pictures, read_image, refuse_address
from clipself.data.images.shard_files import are_shards, expand
from clipself.data.images.shards import ShardPictures
from clipself.data.images.tables import TablePictures, is_table
from clipself.data.images.video import Frame, Video, is_video

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundPicture:
    """One picture, a file or an opened one.

    Attributes:
        path: As it was given, or below the folder that was given; of an opened picture its file, or its number.
        file: Its path below what was searched, "/" between folders: what a COCO file calls `file_name`.
        name: Of what is made of it: `file` without suffix where that tells it from all others; always relative and
            short enough for any file system.
        opened: The picture itself, where it was given so.
    """

    path: Path
    file: str
    name: str
    opened: Picture | None = field(default=None, compare=False, repr=False)

    def read(self) -> Image.Image:
        """Its pixels; errors as of `read_image`."""
        return read_image(self.path if self.opened is None else self.opened)


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundPictures:
    """Picture files in the order of the inputs, those of a folder sorted.

    Attributes:
        pictures: Each file once.
        passed_over: What lies in the folders besides -> how often.
    """

    pictures: tuple[FoundPicture, ...]
    passed_over: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.pictures)

    def __iter__(self) -> Iterator[FoundPicture]:
        return iter(self.pictures)

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return [picture.path for picture in self.pictures]

    def describe(self) -> str:
        """One line: how many pictures, and what was passed over."""
        return told(len(self), self.passed_over)


def find_pictures(inputs: Sequence[Picture] | Picture, *, every: int = 1) -> FoundPictures:
    """Lists the pictures of files and folders; tells in one line what it passed over.

    Folders are searched at any depth, links to folders too, each folder once, so that links may lead back. Hidden files
    are left out. A file that is named itself is taken whatever its suffix is; a video that is named itself is its
    frames, and tar shards, one or a pattern such as `shards/*.tar` or `https://host/{000..127}.tar`, are the pictures
    in them, as is a folder that `datasets` has saved.

    Args:
        inputs: Files, folders, videos, and whatever else `read_image` takes; one or several.
        every: Of videos 1 takes all frames, 10 every tenth.

    Raises:
        FileNotFoundError: An input is not there, or there is no picture in all of them.
        ValueError: There are no inputs, or one is nothing that shows a picture.
        ImportError: One is a video, and PyAV is not installed.
    """
    given = list_pictures(inputs)
    if not given:
        raise ValueError("there are no pictures; pass files or folders")
    passed_over: Counter[str] = Counter()
    found: dict[str, tuple[Path, Picture | None]] = {}
    roots: list[Path] = []
    for number, one in enumerate(given, start=1):
        if not _is_path(one):
            found[f"opened {number}"] = (_label(one, number), one)
            continue
        path = Path(one)
        if are_shards(path):
            pictures = ShardPictures(expand(path))
            roots += {shard.parent for shard in pictures.shards}
            for member in pictures:
                found.setdefault(os.path.abspath(member), (member, None))
            continue
        refuse_address(one)
        if not path.exists() and not is_there(path):
            raise FileNotFoundError(f"no image at {path}; check the path")
        if is_video(path) and path.is_file():
            video = Video(path)
            for frame in range(0, video.count, every):
                found[f"{path} {frame}"] = (Path(path.stem, f"{frame:06d}.png"), Frame(video, frame))
            continue
        roots += [] if is_video(path) else [path if path.is_dir() else path.parent]
        for file in _list(path, passed_over):
            found.setdefault(os.path.abspath(file), (file, None))
    if not found:
        raise nothing_found(given, passed_over)
    listed = FoundPictures(pictures=_named(roots, list(found.values())), passed_over=dict(passed_over))
    if passed_over:
        log.info("%s", listed.describe())
    return listed


def _label(picture: Any, number: int) -> Path:
    """What an opened picture is called: after its file where it knows that, else by its number."""
    if not isinstance(picture, Image.Image | np.ndarray | Tensor | Frame):
        read_image(picture)  # says what a picture is
    return Path(str(getattr(picture, "filename", "") or f"picture_{number}"))


def _named(roots: Sequence[Path], found: Sequence[tuple[Path, Picture | None]]) -> tuple[FoundPicture, ...]:
    below = iter(relative_files([path for path, opened in found if opened is None], roots))
    files = [next(below) if opened is None else _own_name(path, opened) for path, opened in found]
    return tuple(
        FoundPicture(path=path, file=file, name=name, opened=opened)
        for (path, opened), file, name in zip(found, files, distinct_names(files), strict=True)
    )


def _own_name(path: Path, opened: Picture) -> str:
    return path.as_posix() if isinstance(opened, Frame) else path.name


def _is_path(picture: Picture) -> TypeGuard[str | os.PathLike[str]]:
    return isinstance(picture, str | os.PathLike)


def read_all(pictures: Sequence[Picture] | Picture) -> list[Image.Image]:
    """Opened pictures and those of files and folders, decoded; one that cannot be read is left out with a warning.

    Args:
        pictures: Anything that `read_image` takes, or folders; one or several.

    Raises:
        FileNotFoundError: An input is not there.
        ValueError: There are none, or none can be read.
    """
    listed = find_pictures(pictures)
    read, said = [], ""
    for one in listed:
        try:
            read.append(one.read())
        except ValueError as error:
            said = said or str(error)
            log.warning("%s; it is left out", error)
    if not read:
        raise ValueError(said if len(listed) == 1 else f"none of {len(listed)} pictures can be read; the first: {said}")
    return read


def _list(path: Path, passed_over: Counter[str]) -> Iterable[Path]:
    """Pictures of a file, a folder, or a folder that is an Arrow table."""
    if not path.is_dir():
        return (path,)
    if is_table(path):
        return TablePictures(path)
    return [path / name for name in search(path, passed_over)]


def list_folder(root: Path) -> FolderPictures:
    """The pictures of a folder as `find_pictures` lists them, without names for what is made of them.

    Raises:
        FileNotFoundError: There is none.
    """
    passed_over: Counter[str] = Counter()
    pictures = FolderPictures(root, search(root, passed_over))
    if not len(pictures):
        raise nothing_found([root], passed_over)
    if passed_over:
        log.info("%s", told(len(pictures), passed_over))
    return pictures
