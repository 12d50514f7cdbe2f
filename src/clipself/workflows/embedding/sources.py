"""What is embedded, a piece at a time: whole pictures, or labelled boxes on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.examples import as_clip_sees_it, embed_regions
from clipself.data.coco.instances import Instances, read_instances
from clipself.data.images import Example, FoundPictures
from clipself.data.predictions import leaving_out
from clipself.data.sources import check_images_exist


@dataclass(frozen=True, kw_only=True, slots=True)
class Embedded:
    """One piece.

    Attributes:
        rows_ND: Unit rows in float32 on the CPU.
        told: What each is of, for JSON.
        left_out: Pictures that could not be read, with the reason.
    """

    rows_ND: Tensor
    told: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)


class Source(Protocol):
    """A list of pictures.

    Attributes:
        kind: Name of the table.
        at_once: Pictures of a piece.
        files: Their names.
        made_with: What the rows depend on besides.
    """

    kind: str
    at_once: int
    files: Sequence[str]
    made_with: Mapping[str, Any]

    def embed(self, clip: DenseCLIP, places: range) -> Embedded:
        """The rows of some of them."""


class WholePictures:
    """Each picture is a row: what the image tower says of the middle square of it.

    Args:
        listed: The pictures.
    """

    def __init__(self, listed: FoundPictures) -> None:
        self.kind, self.at_once, self.pictures = "pictures", 16, listed.pictures
        self.made_with: Mapping[str, Any] = {}
        self.files: Sequence[str] = [picture.file for picture in self.pictures]

    @torch.no_grad()
    def embed(self, clip: DenseCLIP, places: range) -> Embedded:
        """See `Source`."""
        done, images = Embedded(rows_ND=torch.zeros(0, clip.embed_dim)), []
        for picture in (self.pictures[place] for place in places):
            reasons: list[str] = []
            with leaving_out(picture.path, reasons.append):
                images.append(as_clip_sees_it(clip, picture.read()))
                done.told.append({"file": picture.file})
            done.left_out.extend({"file": picture.file, "reason": reason} for reason in reasons)
        rows = clip.encode_image(torch.stack(images)).float().cpu() if images else done.rows_ND
        return Embedded(rows_ND=rows, told=done.told, left_out=done.left_out)


class LabelledBoxes:
    """Each box is a row: the dense map of its picture, pooled over the box.

    Args:
        annotations: A COCO file, or labels of another tool.
        images: Folder of the pictures.
        readout: How the last block becomes a dense map.
        image_size: Longest side that the model sees, in pixels.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: Labels cannot be meant, or there are no boxes.
    """

    def __init__(self, annotations: Path, images: Path, *, readout: str, image_size: int) -> None:
        self.table: Instances = read_instances(annotations, images=images)
        self.table.report.tell()
        self.kind, self.at_once, self.images, self.readout, self.image_size = "boxes", 1, images, readout, image_size
        self.made_with: Mapping[str, Any] = {"readout": readout, "image_size": image_size}
        rows = self.table.rows_by_image(self.table.fit_N & ~self.table.crowd_N)
        self.held = [(image, some) for image, some in zip(self.table.images, rows, strict=True) if len(some)]
        self.files: Sequence[str] = [image.file for image, _ in self.held]
        if not self.held:
            raise ValueError(f"{annotations} holds no boxes to embed")
        check_images_exist([images / file for file in self.files], source=str(annotations))

    def embed(self, clip: DenseCLIP, places: range) -> Embedded:
        """See `Source`."""
        (place,) = places
        image, rows = self.held[place]
        boxes_xywh, reasons = self.table.boxes_N4[rows].tolist(), list[str]()
        boxes = tuple((x, y, x + width, y + height) for x, y, width, height in boxes_xywh)
        example = Example(picture=self.images / image.file, boxes=boxes)
        with leaving_out(self.images / image.file, reasons.append):
            found = embed_regions(clip, example, readout=self.readout, image_size=self.image_size)
            names = [self.table.categories[label].name for label in self.table.category_N[rows].tolist()]
            told = [
                {"file": image.file, "box": list(box), "name": name} for box, name in zip(boxes, names, strict=True)
            ]
            return Embedded(rows_ND=found, told=told)
        left_out = [{"file": image.file, "reason": reason} for reason in reasons]
        return Embedded(rows_ND=torch.zeros(0, clip.embed_dim), left_out=left_out)
