"""Pictures whose pixels are numbers: index maps, and the segment ids of panoptic PNGs."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipself.data.images.read import open_file
from clipself.files import Together, write_atomically
from clipself.viz.colours import class_colour

IGNORED: Final = 255
"""Label of unlabelled pixels in 8-bit maps; 16-bit maps use `IGNORED_16`."""
IGNORED_16: Final = 65535
LOSSY: Final = ("JPEG", "MPO")
"""Formats of photographs, which do not keep numbers, whatever the suffix says."""


def read_index_map(path: str | os.PathLike[str]) -> NDArray[Any]:
    """A map of class indices (H, W), 8 or 16 bits; palettes are read as indices, never as colours.

    A grey map that was saved with colour channels is read where they agree everywhere.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds other than one whole number a pixel, or is damaged.
    """
    values = _numbers(path, "index map")
    if values.ndim == 3 and values.shape[2] in (2, 4) and (values[..., -1] == values[..., -1].max()).all():
        values = values[..., :-1]  # nothing but opaque
    if values.ndim == 3 and (values.shape[2] == 1 or _is_grey(values)):
        values = values[..., 0]
    if values.ndim != 2:
        raise ValueError(f"{path} has {values.shape[-1]} channels; an index map has one, with a class in every pixel")
    return values


def read_segment_ids(path: str | os.PathLike[str], *, listed: Collection[int] | None = None) -> NDArray[np.int32]:
    """Segment ids (H, W) of a panoptic PNG: R + 256 G + 65536 B; a PNG of one channel, 8 or 16 bits, holds plain ids.

    Args:
        path: The PNG.
        listed: Ids that the annotation lists for this picture; see `read_listed_ids`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, holds no whole numbers, or none of the listed ids.
    """
    return _ids_it_may_hold(path)[0] if listed is None else read_listed_ids(path, listed)[0]


def read_listed_ids(
    path: str | os.PathLike[str], listed: Collection[int]
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """As `read_segment_ids`, and which pixels (H, W) are of a listed segment, or of none, which is 0.

    Where none of several listed ids occurs, the PNG is another picture's.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, holds no whole numbers, or none of the listed ids.
    """
    kinds = [(ids, np.isin(ids, [0, *listed])) for ids in _ids_it_may_hold(path)]
    ids_HW, known_HW = max(kinds, key=lambda kind: np.count_nonzero(kind[1]))
    if listed and 0 not in listed and not (known_HW & (ids_HW != 0)).any():
        raise ValueError(
            f"{path} holds none of the segments that the annotation lists ({sorted(listed)[:3]} ...), but "
            f"{np.unique(ids_HW)[:3].tolist()} ...; is it another picture's, or not of the form R + 256 G + 65536 B?"
        )
    return ids_HW, known_HW


def _ids_it_may_hold(path: str | os.PathLike[str]) -> list[NDArray[np.int32]]:
    """The ids of a PNG; two readings of one with a palette."""
    with open_file(path, what="segments") as opened:
        if opened.mode == "P":  # shrunk without loss, or drawn by a tool that paints by number: the ids tell
            colours = _ids_of(np.asarray(opened.convert("RGB"), dtype=np.int32))
            return [colours, np.asarray(opened, dtype=np.int32)]
        return [_ids_of(_values(opened, path))]


def segment_colours(ids_HW: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Ids (H, W) -> colours (H, W, 3) of a panoptic PNG."""
    return np.stack([ids_HW % 256, ids_HW // 256 % 256, ids_HW // 65536], axis=-1).astype(np.uint8)


def write_index_map(path: Path, labels_HW: NDArray[Any], files: Together | None = None) -> Path:
    """Writes class indices as PNG, atomically: 8 bits with the classes' colours as palette where they fit, else 16.

    Args:
        path: The PNG.
        labels_HW: Class of every pixel.
        files: Those that it is brought to disk with; by itself if not given.
    """
    if int(labels_HW.max(initial=0)) > IGNORED:
        picture = Image.fromarray(labels_HW.astype(np.uint16))
    else:
        picture = Image.fromarray(labels_HW.astype(np.uint8))
        picture.putpalette([part for index in range(IGNORED) for part in class_colour(index)] + [0, 0, 0])
    write = write_atomically if files is None else files.write
    return write(path, lambda part: picture.save(part, format="PNG"))


def check_size(
    values_HW: NDArray[Any], size: tuple[int, int], *, source: str | os.PathLike[str], picture: str | os.PathLike[str]
) -> None:
    """Refuses a map of another size than its picture.

    Args:
        values_HW: The map.
        size: Width and height of the picture, as PIL gives them.
        source: File of the map.
        picture: File of the picture.

    Raises:
        ValueError: The sizes differ.
    """
    if values_HW.shape != (size[1], size[0]):
        raise ValueError(
            f"{source} is {values_HW.shape[1]} x {values_HW.shape[0]} pixels, its picture {picture} is {size[0]} x "
            f"{size[1]}; a map has the size of its picture: do they belong together?"
        )


def _numbers(path: str | os.PathLike[str], what: str) -> NDArray[Any]:
    with open_file(path, what=what) as opened:
        return _values(opened, path)


def _values(opened: Image.Image, path: str | os.PathLike[str]) -> NDArray[Any]:
    if opened.format in LOSSY:
        raise ValueError(
            f"{path} is a {opened.format}, whose pixels are only near what was stored, so that its ids are others; "
            "maps are PNG or TIFF"
        )
    values = np.asarray(opened)
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if np.issubdtype(values.dtype, np.floating):
        whole = np.isfinite(values).all() and (values == np.rint(values)).all()
        if not whole or values.min() < 0 or values.max() > IGNORED_16:
            raise ValueError(f"{path} holds numbers that are not whole; a map holds an index or id in every pixel")
        return values.astype(np.int64)
    return values


def _is_grey(values: NDArray[Any]) -> bool:
    return bool((values == values[..., :1]).all())


def _ids_of(values: NDArray[Any]) -> NDArray[np.int32]:
    numbers = values.astype(np.int32)
    if numbers.ndim == 2:
        return numbers
    if numbers.shape[2] < 3:
        return numbers[..., 0]
    return numbers[..., 0] + 256 * numbers[..., 1] + 65536 * numbers[..., 2]
