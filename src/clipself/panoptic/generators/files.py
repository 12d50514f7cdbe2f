"""Masks that lie in files: panoptic labels, SAM, any tool that writes run lengths."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipself.data.labelled import decode_segmentation
from clipself.data.panoptic import read_segment_ids
from clipself.data.sources import file_name_of, read_json
from clipself.panoptic.generators.mask_set import MaskSet

SURE: Final = 20.0
"""Logit of a pixel whose mask is known."""


class FileMasks:
    """Masks made elsewhere: panoptic labels, SAM, any tool that writes run lengths.

    Args:
        source: A COCO panoptic JSON (its PNGs in the folder beside it); a JSON list of
            {"file_name" or "image_id", "segmentation", and, where known, "score"}; or a folder with one JSON for each
            picture, named as the picture is, that holds such a list or {"annotations": list} (SAM, SA-1B).
        segments: Folder of the PNGs of a panoptic JSON.

    Raises:
        FileNotFoundError: The file or folder is missing.
        ValueError: The file is of none of these forms.
    """

    def __init__(self, source: str | Path, *, segments: str | Path | None = None) -> None:
        self.source, self.trained_names = Path(source), tuple[str, ...]()
        self._folder = self.source if self.source.is_dir() else None
        self._panoptic: dict[str, tuple[Path, list[int]]] = {}
        self._lists: dict[str, list[Mapping[str, Any]]] = {}
        if self._folder is None:
            self._index(read_json(self.source), Path(segments) if segments else self.source.with_suffix(""))

    def _index(self, held: Any, pngs: Path) -> None:
        rows = held.get("annotations") if isinstance(held, Mapping) else held
        if not isinstance(rows, list) or (rows and not isinstance(rows[0], Mapping)):
            raise ValueError(
                f"{self.source} holds no masks; pass a COCO panoptic JSON, a list of run lengths, or a folder of them"
            )
        files = {row["id"]: file_name_of(row) for row in held.get("images", ())} if isinstance(held, Mapping) else {}
        for row in rows:
            key = _key(str(files.get(row.get("image_id"), row.get("file_name", row.get("image_id")))))
            if "segments_info" in row:
                wanted = [one["id"] for one in row["segments_info"] if not one.get("iscrowd", 0)]
                self._panoptic[key] = (pngs / row["file_name"], wanted)
            elif "segmentation" in row:
                self._lists.setdefault(key, []).append(row)
            else:
                raise ValueError(f"{self.source}: a row has neither segments_info nor segmentation: {sorted(row)}")

    def __call__(self, picture: Image.Image, *, file: str, names: Sequence[str]) -> MaskSet:
        """The stored masks of a picture; none where the file lists none.

        Raises:
            FileNotFoundError: A folder has no list for this picture, or a PNG is missing.
            ValueError: A stored mask has another size than the picture.
        """
        size, key = (picture.height, picture.width), _key(file)
        masks, scores = self._read(key, size)
        if masks.shape[1:] != size:
            raise ValueError(
                f"the masks of {file} are {masks.shape[1]} x {masks.shape[2]}, the picture is {size[0]} x {size[1]}; "
                "masks belong to the picture at its own size"
            )
        return MaskSet(
            masks_QYX=torch.where(masks, SURE, -SURE), void_Q=1 - torch.tensor(scores, dtype=torch.float32).clamp(0, 1)
        )

    def _read(self, key: str, size: tuple[int, int]) -> tuple[Tensor, list[float]]:
        if key in self._panoptic:
            path, wanted = self._panoptic[key]
            if not path.is_file():
                raise FileNotFoundError(f"no segments at {path}; pass the folder of the PNGs")
            ids = read_segment_ids(path)
            masks = torch.from_numpy(np.stack([ids == one for one in wanted])) if wanted else _no_masks(ids.shape)
            return masks, [1.0] * len(wanted)
        rows = self._rows(key)
        if not rows:
            return _no_masks(size), []
        scores = [float(row.get("score", row.get("predicted_iou", 1.0))) for row in rows]
        return torch.stack([decode_segmentation(row["segmentation"], size) for row in rows]), scores

    def _rows(self, key: str) -> list[Mapping[str, Any]]:
        if self._folder is None:
            return self._lists.get(key, [])
        found = [path for path in self._folder.glob("*.json") if _key(path.name) == key]
        if not found:
            raise FileNotFoundError(f"{self._folder} holds no {key}.json; write one list of masks for each picture")
        held = json.loads(found[0].read_text(encoding="utf-8"))
        rows: list[Mapping[str, Any]] = held["annotations"] if isinstance(held, Mapping) else held
        return rows


def _key(file: str) -> str:
    """A file's name without folder, suffix and leading zeros: COCO's ids and its file names meet here."""
    stem = Path(file).stem if "." in Path(file).name else Path(file).name
    return str(int(stem)) if stem.isdigit() else stem


def _no_masks(size: tuple[int, ...]) -> Tensor:
    return torch.zeros(0, *size, dtype=torch.bool)
