"""Masks that lie in files: panoptic labels, SAM, any tool that writes run lengths."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipself.data.images import read_segment_ids
from clipself.data.labelled import decode_segmentation
from clipself.data.sources import file_name_of, read_json
from clipself.panoptic.generators.by_picture import ByPicture
from clipself.panoptic.generators.mask_set import MaskSet

SURE: Final = 20.0
"""Logit of a pixel whose mask is known."""


@dataclass(slots=True)
class _Stored:
    """The masks of one picture, not yet decoded.

    Attributes:
        rows: Place in the file and row, each with a segmentation.
        png: Panoptic map, where the masks lie in one.
        ids: Its segments that are no crowd.
    """

    rows: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)
    png: Path | None = None
    ids: list[int] = field(default_factory=list)


class FileMasks:
    """Masks made elsewhere: panoptic labels, SAM, any tool that writes run lengths.

    A row belongs to the picture whose path ends as its name does, see `ByPicture`.

    Args:
        source: A COCO panoptic JSON (its PNGs in the folder beside it); a JSON list of
            {"file_name" or "image_id", "segmentation", and, where known, "score"}; SAM's own list for one picture,
            without names; or a folder with one JSON for each picture, named as the picture is, that holds such a list
            or {"annotations": list} (SAM, SA-1B).
        segments: Folder of the PNGs of a panoptic JSON.

    Raises:
        FileNotFoundError: The file or folder is missing.
        ValueError: The file is of none of these forms.
    """

    def __init__(self, source: str | Path, *, segments: str | Path | None = None) -> None:
        self.source, self.trained_names = Path(source), tuple[str, ...]()
        self._stored = ByPicture[_Stored](str(source))
        self._lists = ByPicture[Path](str(source))
        self._only: _Stored | None = None
        self._only_for = ""
        if self.source.is_dir():
            for path in sorted(self.source.rglob("*.json")):
                self._lists.slot(str(path.relative_to(self.source).with_suffix("")), path)
        else:
            self._index(read_json(self.source), Path(segments) if segments else self.source.with_suffix(""))

    def _index(self, held: Any, pngs: Path) -> None:
        rows, files = _rows_of(held, self.source), _files_of(held)
        nameless = _Stored()
        for place, row in enumerate(rows):
            name = files.get(row.get("image_id"), row.get("file_name", row.get("image_id")))
            stored = nameless if name is None else self._stored.slot(str(name), _Stored())
            if "segments_info" in row:
                stored.png, stored.ids = pngs / row["file_name"], _plain_ids(row["segments_info"])
            else:
                stored.rows.append((place, row))
        if nameless.rows and len(nameless.rows) < len(rows):
            raise ValueError(
                f'{self.source}: row {nameless.rows[0][0]} has neither "file_name" nor "image_id", others have; '
                "say for each row which picture it belongs to"
            )
        self._only = nameless if nameless.rows else None

    def __call__(self, picture: Image.Image, *, file: str, names: Sequence[str]) -> MaskSet:
        """The stored masks of a picture; none where the file lists none.

        Raises:
            FileNotFoundError: A folder has no list for this picture, or a PNG is missing.
            ValueError: A stored mask has another size than the picture, or it is not clear whose masks they are.
        """
        masks, scores = self._read(self._find(file), (picture.height, picture.width), file)
        return MaskSet(
            masks_QYX=torch.where(masks, SURE, -SURE), void_Q=1 - torch.tensor(scores, dtype=torch.float32).clamp(0, 1)
        )

    def _find(self, file: str) -> _Stored:
        if self.source.is_dir():
            path = self._lists.find(file)
            if path is None:
                raise FileNotFoundError(
                    f"{self.source} holds no {Path(file).stem}.json; write one list of masks for each picture"
                )
            return _Stored(rows=list(enumerate(_rows_of(read_json(path), path))))
        return self._stored.find(file) or _Stored() if self._only is None else self._only_one(self._only, file)

    def _only_one(self, only: _Stored, file: str) -> _Stored:
        """SAM's own list names no picture: it is that of the first one that asks."""
        asked = os.path.abspath(file)
        self._only_for = self._only_for or asked
        if asked != self._only_for:
            raise ValueError(
                f"{self.source} names no picture in its rows, so its masks are those of one picture, but there are "
                f"two, {self._only_for} and {asked}; pass a folder with one list for each picture"
            )
        return only

    def _read(self, stored: _Stored, size: tuple[int, int], file: str) -> tuple[Tensor, list[float]]:
        if stored.png is not None:
            if not stored.png.is_file():
                raise FileNotFoundError(f"no segments at {stored.png}; pass the folder of the PNGs")
            ids = read_segment_ids(stored.png)
            _check_size(ids.shape, size, file)
            masks = [torch.from_numpy(np.asarray(ids == one)) for one in stored.ids]
            return _stack(masks, size), [1.0] * len(masks)
        masks = []
        for place, row in stored.rows:
            try:
                mask = decode_segmentation(row["segmentation"], size)
            except ValueError as error:
                raise ValueError(f"{self.source}: the mask of row {place}, for {file}: {error}") from error
            _check_size(tuple(mask.shape), size, file)
            masks.append(mask)
        return _stack(masks, size), [self._score_of(place, row) for place, row in stored.rows]

    def _score_of(self, place: int, row: Mapping[str, Any]) -> float:
        score = row.get("score", row.get("predicted_iou", 1.0))
        if not isinstance(score, int | float) or not math.isfinite(score):
            raise ValueError(f"{self.source}: the score of row {place} is {score!r}, expected a number in [0, 1]")
        return float(score)


def _rows_of(held: Any, source: Path) -> list[Mapping[str, Any]]:
    rows = held.get("annotations") if isinstance(held, Mapping) else held
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError(
            f"{source} holds no masks; pass a COCO panoptic JSON, a list of run lengths, or a folder of them"
        )
    for place, row in enumerate(rows):
        if not row.keys() & {"segments_info", "segmentation"}:
            raise ValueError(f"{source}: row {place} has neither segments_info nor segmentation: {sorted(row)}")
    return rows


def _files_of(held: Any) -> dict[Any, str]:
    """Image id -> file; None stands for the one picture of a SA-1B list."""
    if not isinstance(held, Mapping):
        return {}
    files = {row["id"]: file_name_of(row) for row in held.get("images", ())}
    one = held.get("image")
    return {**files, None: str(one["file_name"])} if isinstance(one, Mapping) and "file_name" in one else files


def _plain_ids(segments: Sequence[Mapping[str, Any]]) -> list[int]:
    return [one["id"] for one in segments if not one.get("iscrowd", 0)]


def _check_size(own: tuple[int, ...], size: tuple[int, int], file: str) -> None:
    if own != size:
        raise ValueError(
            f"the masks of {file} are {own[0]} x {own[1]}, the picture is {size[0]} x {size[1]}; "
            "masks belong to the picture at its own size"
        )


def _stack(masks: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    return torch.stack(list(masks)) if masks else torch.zeros(0, *size, dtype=torch.bool)
