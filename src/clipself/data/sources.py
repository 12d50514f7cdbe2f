"""Where images and their boxes come from: a folder, a COCO file, proposals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from clipself.data.coco.instances import read_instances
from clipself.data.coco.kinds import open_coco
from clipself.data.coco.report import Notes
from clipself.data.coco.results import read_proposals
from clipself.data.coco.rows import check_picture_size, describe_images, read_images
from clipself.data.coco.segments import drop
from clipself.data.images.find import list_folder
from clipself.data.images.inside import is_there
from clipself.data.images.made import MadePictures
from clipself.data.images.shard_files import are_shards, expand
from clipself.data.images.shards import ShardPictures
from clipself.data.images.tables import TablePictures, is_table
from clipself.files import read_json as read_json
from clipself.ops.boxes import check_boxes, xywh_to_xyxy, xyxy_to_xywh


class ImageSource(Protocol):
    """Images by index, each with class-free boxes where the source has some."""

    @property
    def paths(self) -> Sequence[Path]:
        """Where they lie."""

    def __len__(self) -> int:
        """How many images there are."""

    def boxes_xywh(self, index: int, *, size: tuple[int, int]) -> Tensor:
        """Boxes (N, 4) of an image in pixels, corner and size, checked against the size of the image."""


class ImageFolder:
    """Every image file below a folder, sorted by path, or in tar shards, or in the rows of an Arrow table; no boxes.

    Args:
        root: Folder, searched at any depth as `find_pictures` does; or a shard, or a pattern of shards such as
            `shards/*.tar`, `shards/{000..127}.tar` or `https://host/{000..127}.tar`, or a folder
            that `datasets` has saved, of which no list is held.

    Raises:
        FileNotFoundError: There is no such folder or shard, or it holds no image file.
        ValueError: No shard can be read.
        ConnectionError: An address cannot be read.
        ImportError: What reads such addresses, or tables, is not installed.
    """

    def __init__(self, root: str | Path) -> None:
        self.root, self.paths = Path(root), self._find(Path(root))

    @staticmethod
    def _find(root: Path) -> MadePictures:
        if are_shards(root):
            return ShardPictures(expand(root))
        if not root.is_dir():
            if root.is_file():
                raise ValueError(
                    f"{root} is a file; pass a folder of images (an archive unpacked, a single picture in a folder), "
                    "or tar shards as in 'FOLDER/*.tar'"
                )
            raise FileNotFoundError(f"no folder at {root}; pass a folder of images, or tar shards as in 'FOLDER/*.tar'")
        if is_table(root):
            return TablePictures(root)
        return list_folder(root)

    @property
    def names(self) -> Sequence[str]:
        """Paths below the folder, or below that of the shards."""
        return self.paths.names

    def __len__(self) -> int:
        return len(self.paths)

    def boxes_xywh(self, index: int, *, size: tuple[int, int]) -> Tensor:
        """A folder has no boxes."""
        return torch.zeros(0, 4)


class CocoImages:
    """The images of a COCO or LVIS file, with its annotation boxes or with proposals: a view on `data.coco`.

    Boxes are kept in one array, so that memory stays at 16 bytes a box. Those without width or height, and those
    outside their picture, are passed over and counted.

    Args:
        annotations: COCO-style JSON with "images"; instances, unless proposals are given or no boxes are needed.
        images: Folder that `file_name` is relative to, which may lead into a shard there (`000.tar/1.jpg`); LVIS files
            without `file_name` use the end of `coco_url`.
        proposals: COCO-results JSON (list of {"image_id", "bbox": xywh, "score"}) or an annotation JSON.
        needs_boxes: Whether a file without boxes is an error; patches need none.

    Raises:
        FileNotFoundError: A file is missing; missing images are counted and the first are named.
        ValueError: A file is not of that form, a row of it cannot be meant, or it holds no boxes.
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
        held = open_coco(annotations, hook=drop, images=images)
        if proposals is None and needs_boxes:
            table = read_instances(held, classes=False)
            listed, place_N, boxes_N4, report = table.images, table.image_N, table.boxes_N4, table.report
            place_N, boxes_N4 = place_N[table.fit_N], boxes_N4[table.fit_N]
        else:
            held.require("instances", "panoptic", "captions", "images", wanted="a COCO-style annotation file")
            notes = Notes()
            listed = read_images(held, notes)
            place_N, boxes_N4, report = np.zeros(0, np.int64), np.zeros((0, 4)), describe_images(held, listed, notes)
            if proposals is not None:
                found = read_proposals(proposals, listed)
                place_N, boxes_N4, report = found.image_N, found.boxes_N4, found.report
        self.report = report.tell()
        """What was read of what the file lists."""
        self.images = listed
        self.ids = [image.id for image in listed]
        self.paths: list[Path] = [Path(images) / image.file for image in listed]
        check_images_exist(self.paths, source=str(annotations))
        order = np.argsort(place_N, kind="stable")
        self._start = np.searchsorted(place_N[order], np.arange(len(listed) + 1))
        self._boxes = boxes_N4[order].astype(np.float32)
        if needs_boxes and not len(self._boxes):
            raise ValueError(
                f"{self.source} holds no boxes for the images of {annotations}; were they made for others?"
            )

    def __len__(self) -> int:
        return len(self.paths)

    def boxes_xywh(self, index: int, *, size: tuple[int, int]) -> Tensor:
        """Boxes (N, 4) of an image in pixels, as annotated; only those across the border are changed (clipped).

        Raises:
            ValueError: The image has another size than the file says, or a box lies outside it.
        """
        xywh = torch.from_numpy(self._boxes[self._start[index] : self._start[index + 1]])
        if len(xywh):
            check_picture_size(self.images[index], size, source=self.source)
        boxes = xywh_to_xyxy(xywh)
        clipped = check_boxes(boxes, size=size, source=f"{self.source}, {self.paths[index].name}")
        return torch.where((clipped == boxes).all(-1, keepdim=True), xywh, xyxy_to_xywh(clipped))


def check_images_exist(paths: Sequence[Path], *, source: str) -> None:
    """Names the first missing images and counts the rest.

    Raises:
        FileNotFoundError: An image is missing.
        ValueError: There are no images at all.
    """
    if not paths:
        raise ValueError(f"{source} lists no images; there is nothing to do")
    missing = [path for path in paths if not is_there(path)]
    if missing:
        named = ", ".join(str(path) for path in missing[:3])
        raise FileNotFoundError(
            f"{len(missing)} of {len(paths)} images named by {source} are missing, such as {named}; "
            "pass the folder that its file names are relative to"
        )
