"""Masks that lie in files: panoptic labels, SAM, any tool that writes run lengths."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipself.data.coco.kinds import open_coco
from clipself.data.coco.panoptic import PanopticRows, read_panoptic
from clipself.data.coco.results import MaskRows, read_masks
from clipself.data.coco.segments import pack
from clipself.data.images import read_segment_ids
from clipself.panoptic.generators.by_picture import ByPicture
from clipself.panoptic.generators.mask_set import MaskSet

SURE: Final = 20.0
"""Logit of a pixel whose mask is known."""


@dataclass(slots=True)
class _Stored:
    """The masks of one picture, not yet decoded.

    Attributes:
        held: The list they stand in, where it is a list.
        rows: Their places in it.
        png: Panoptic map, where the masks lie in one.
        ids: Its segments.
        wanted: Those of them that are no crowd.
    """

    held: MaskRows | None = None
    rows: list[int] = field(default_factory=list)
    png: Path | None = None
    ids: list[int] = field(default_factory=list)
    wanted: list[int] = field(default_factory=list)


class FileMasks:
    """Masks made elsewhere: panoptic labels, SAM, any tool that writes run lengths.

    A row belongs to the picture whose path ends as its name does, see `ByPicture`; rows that hold ids alone go by the
    ids of the COCO file that lists the pictures, where there is one (`expect`).

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
        self._by_id: dict[str, _Stored] = {}
        self._of_file: dict[str, _Stored] = {}
        self._only: _Stored | None = None
        self._only_for = ""
        if self.source.is_dir():
            for path in sorted(self.source.rglob("*.json")):
                self._lists.slot(str(path.relative_to(self.source).with_suffix("")), path)
        else:
            opened = open_coco(self.source, hook=pack)
            if opened.kind == "panoptic":
                self._index_pngs(read_panoptic(opened), segments)
            else:
                self._index_lists(read_masks(opened))

    def _index_pngs(self, held: PanopticRows, segments: str | Path | None) -> None:
        held.report.tell()
        for row in held.rows:
            stored = self._stored.slot(row.image.file, _Stored())
            stored.png, stored.ids = held.folder(segments) / row.file, [one.id for one in row.segments]
            stored.wanted = [one.id for one in row.segments if not one.is_crowd]

    def _index_lists(self, held: MaskRows) -> None:
        held.report.tell()
        nameless = [row for row, key in enumerate(held.keys) if key is None]
        if nameless and len(nameless) < len(held.keys):
            raise ValueError(
                f'{held.place(nameless[0])} has neither "file_name" nor "image_id", others have; say for each row '
                "which picture it belongs to"
            )
        for row, key in enumerate(held.keys):
            if key is not None:
                stored = self._stored.slot(key, _Stored(held=held))
                stored.rows.append(row)
                if held.by_id:
                    self._by_id[key] = stored
        self._only = _Stored(held=held, rows=nameless) if nameless else None

    def __call__(self, picture: Image.Image, *, file: str, names: Sequence[str]) -> MaskSet:
        """The stored masks of a picture; none where the file lists none.

        Raises:
            FileNotFoundError: A folder has no list for this picture, or a PNG is missing.
            ValueError: A stored mask has another size than the picture, or it is not clear whose masks they are.
        """
        masks, scores = self._read(self._find(file), (picture.height, picture.width), file)
        return MaskSet(
            masks_QYX=SURE * (2 * masks.half() - 1), void_Q=1 - torch.tensor(scores, dtype=torch.float32).clamp(0, 1)
        )

    def expect(self, files: Sequence[str], ids: Sequence[int | str] = ()) -> int:
        """For how many of these pictures there are masks.

        Args:
            files: Their files.
            ids: Their ids in the COCO file that lists them, by which rows go that hold an id alone.

        Raises:
            ValueError: It is not clear whose masks some are.
        """
        known = {
            os.path.abspath(file): self._by_id.get(str(one), _Stored()) for file, one in zip(files, ids, strict=False)
        }
        self._of_file = known if any(stored.rows for stored in known.values()) else {}
        if self._of_file:
            return sum(bool(stored.rows) for stored in known.values())
        if self._only is not None:
            return sum(self._only_one(self._only, file) is self._only for file in files)
        found = self._lists if self.source.is_dir() else self._stored
        return sum(found.find(file) is not None for file in files)

    def _find(self, file: str) -> _Stored:
        if self.source.is_dir():
            path = self._lists.find(file)
            if path is None:
                raise FileNotFoundError(
                    f"{self.source} holds no {Path(file).stem}.json; write one list of masks for each picture"
                )
            held = read_masks(path)
            return _Stored(held=held, rows=list(range(len(held.rows))))
        if self._only is not None:
            return self._only_one(self._only, file)
        stored = self._of_file.get(os.path.abspath(file))
        return stored or self._stored.find(file) or _Stored()

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
            ids = read_segment_ids(stored.png, listed=stored.ids)
            _check_size(ids.shape, size, file)
            masks = [torch.from_numpy(np.asarray(ids == one)) for one in stored.wanted]
            return _stack(masks, size), [1.0] * len(masks)
        masks, held = [], stored.held
        if held is None:
            return _stack([], size), []
        for row in stored.rows:
            try:
                masks.append(held.segments.decode(row, size))
            except ValueError as error:
                raise ValueError(f"{held.place(row)}, for {file}: {error}") from error
        return _stack(masks, size), [held.scores[row] for row in stored.rows]


def _check_size(own: tuple[int, ...], size: tuple[int, int], file: str) -> None:
    if own != size:
        raise ValueError(
            f"the masks of {file} are {own[0]} x {own[1]}, the picture is {size[0]} x {size[1]}; "
            "masks belong to the picture at its own size"
        )


def _stack(masks: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    return torch.stack(list(masks)) if masks else torch.zeros(0, *size, dtype=torch.bool)
