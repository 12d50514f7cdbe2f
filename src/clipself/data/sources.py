"""Where images and their boxes come from: a folder, a COCO file, proposals."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipself.data.images import find_pictures
from clipself.ops.boxes import check_boxes, xywh_to_xyxy, xyxy_to_xywh


class ImageSource(Protocol):
    """Images by index, each with class-free boxes where the source has some."""

    paths: list[Path]

    def __len__(self) -> int:
        """How many images there are."""

    def boxes_xywh(self, index: int, *, size: tuple[int, int]) -> Tensor:
        """Boxes (N, 4) of an image in pixels, corner and size, checked against the size of the image."""


class ImageFolder:
    """Every image file below a folder, sorted by path; no boxes.

    Args:
        root: Folder, searched at any depth as `find_pictures` does.

    Raises:
        FileNotFoundError: There is no such folder, or it holds no image file.
    """

    def __init__(self, root: str | Path) -> None:
        root = Path(root)
        if not root.is_dir():
            raise FileNotFoundError(f"no folder at {root}; pass a folder of images")
        self.paths: list[Path] = find_pictures(root).paths

    def __len__(self) -> int:
        return len(self.paths)

    def boxes_xywh(self, index: int, *, size: tuple[int, int]) -> Tensor:
        """A folder has no boxes."""
        return torch.zeros(0, 4)


class CocoImages:
    """The images of a COCO or LVIS file, with its annotation boxes or with proposals.

    Boxes are kept in one array, so that memory stays at 16 bytes a box.

    Args:
        annotations: COCO-style JSON with "images" (and "annotations" if no proposals are given).
        images: Folder that `file_name` is relative to; LVIS files without `file_name` use the end of `coco_url`.
        proposals: COCO-results JSON (list of {"image_id", "bbox": xywh, "score"}) or an annotation JSON.
        needs_boxes: Whether a file without boxes is an error; patches need none.

    Raises:
        FileNotFoundError: A file is missing; missing images are counted and the first are named.
        ValueError: A file is not of that form, or holds no boxes.
    """

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path,
        *,
        proposals: str | Path | None = None,
        needs_boxes: bool = True,
    ) -> None:
        self.source = str(proposals or annotations)
        held = read_json(annotations)
        if not isinstance(held, Mapping) or "images" not in held:
            raise ValueError(f'{annotations} has no "images"; pass a COCO-style annotation file')
        root = Path(images)
        self.ids = [row["id"] for row in held["images"]]
        self.paths: list[Path] = [root / file_name_of(row) for row in held["images"]]
        check_images_exist(self.paths, source=str(annotations))
        rows = held.get("annotations", []) if proposals is None else _result_rows(read_json(proposals), str(proposals))
        self._start, self._boxes = _group_boxes(rows, self.ids)
        if needs_boxes and not len(self._boxes):
            raise ValueError(
                f"{self.source} holds no boxes for the images of {annotations}; were they made for others?"
            )

    def __len__(self) -> int:
        return len(self.paths)

    def boxes_xywh(self, index: int, *, size: tuple[int, int]) -> Tensor:
        """Boxes (N, 4) of an image in pixels, as annotated; only those across the border are changed (clipped).

        Raises:
            ValueError: A box is swapped, empty, outside the image or not finite.
        """
        xywh = torch.from_numpy(self._boxes[self._start[index] : self._start[index + 1]])
        boxes = xywh_to_xyxy(xywh)
        clipped = check_boxes(boxes, size=size, source=f"{self.source}, {self.paths[index].name}")
        return torch.where((clipped == boxes).all(-1, keepdim=True), xywh, xyxy_to_xywh(clipped))


def read_json(path: str | Path) -> Any:
    """Reads a JSON file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not JSON.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no annotation file at {path}; check the path")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); was it cut short while copying?") from error


def file_name_of(row: Mapping[str, Any]) -> str:
    """`file_name`, or the last two parts of `coco_url` as LVIS needs."""
    if "file_name" in row:
        return str(row["file_name"])
    return "/".join(str(row["coco_url"]).split("/")[-2:])


def check_images_exist(paths: Sequence[Path], *, source: str) -> None:
    """Names the first missing images and counts the rest.

    Raises:
        FileNotFoundError: An image is missing.
        ValueError: There are no images at all.
    """
    if not paths:
        raise ValueError(f"{source} lists no images; there is nothing to do")
    missing = [path for path in paths if not path.is_file()]
    if missing:
        named = ", ".join(str(path) for path in missing[:3])
        raise FileNotFoundError(
            f"{len(missing)} of {len(paths)} images named by {source} are missing, such as {named}; "
            "pass the folder that its file names are relative to"
        )


def _result_rows(held: Any, source: str) -> Sequence[Mapping[str, Any]]:
    rows = held.get("annotations") if isinstance(held, Mapping) else held
    if not isinstance(rows, list) or (rows and not {"image_id", "bbox"} <= set(rows[0])):
        raise ValueError(f'{source} is not a list of {{"image_id", "bbox", "score"}}; pass a COCO-results file')
    if not rows:
        raise ValueError(f"{source} holds no proposals; make some first, or distil image patches instead")
    return rows


def _group_boxes(
    rows: Sequence[Mapping[str, Any]], ids: Sequence[Any]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Start of each image's boxes, and all `xywh` boxes in one array."""
    by_image: dict[Any, list[list[float]]] = defaultdict(list)
    for row in rows:
        by_image[row["image_id"]].append(row["bbox"])
    groups = [by_image.get(image_id, []) for image_id in ids]
    start = np.cumsum([0, *map(len, groups)], dtype=np.int64)
    flat = [box for group in groups for box in group]
    return start, np.asarray(flat, dtype=np.float32).reshape(-1, 4)
