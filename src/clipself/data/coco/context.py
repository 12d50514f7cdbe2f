"""PASCAL Context's `trainval_merged.json`: pictures with a phase, and masks under a name of their own."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from clipself.data.coco.kinds import Opened
from clipself.data.coco.report import Notes
from clipself.data.coco.rows import clean_id, read_images, whole
from clipself.data.coco.segments import decode_segmentation
from clipself.files import read_json


class ContextFile:
    """The pictures of the validation half and their masks, later ones on top.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is of another kind, or a row cannot be meant; the row is named.
    """

    def __init__(self, path: Path) -> None:
        held, self.path = read_json(path), path
        if not isinstance(held, Mapping) or not {"images", "annos_segmentation"} <= held.keys():
            raise ValueError(f'{path} lacks "images" or "annos_segmentation"; is it PASCAL Context\'s?')
        phases = [row for row in held["images"] if isinstance(row, Mapping) and row.get("phase") == "val"]
        listed = {"images": [{**row, "id": row.get("image_id")} for row in phases]}
        images = read_images(Opened(source=str(path), kind="images", value=listed), Notes())
        self.by_stem = {Path(image.file).stem: image for image in images}
        self._parts: dict[Any, list[tuple[int, Mapping[str, Any]]]] = {image.id: [] for image in images}
        for number, row in enumerate(held["annos_segmentation"]):
            if not isinstance(row, Mapping) or whole(row.get("category_id")) is None:
                raise ValueError(f"{path}: annos_segmentation[{number}] names no category")
            if clean_id(row.get("image_id")) in self._parts:
                self._parts[clean_id(row["image_id"])].append((number, row))

    def size(self, stem: str) -> tuple[int, int]:
        """Height and width of a picture.

        Raises:
            ValueError: The file does not say.
        """
        size = self.by_stem[stem].size
        if size is None:
            raise ValueError(f"{self.path}: {self.by_stem[stem].file} has no height and width")
        return size

    def masks(self, stem: str) -> Iterator[tuple[int, NDArray[Any]]]:
        """Category and mask (H, W) of each part of a picture.

        Raises:
            ValueError: A mask cannot be decoded.
        """
        for number, row in self._parts[self.by_stem[stem].id]:
            try:
                mask = decode_segmentation(row.get("segmentation"), self.size(stem))
            except ValueError as error:
                raise ValueError(f"{self.path}: annos_segmentation[{number}] of {stem}: {error}") from error
            yield int(row["category_id"]), mask.numpy()
