"""Class-free proposals of a folder of images, in the form that self-distillation reads."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from clipself.data.coco.write import category_rows, image_row, result_rows
from clipself.data.images import read_image
from clipself.data.sources import CocoImages, ImageFolder
from clipself.detection.config import ProposalsConfig
from clipself.detection.detector import open_detector
from clipself.engine.resolve import resolve
from clipself.files import write_text
from clipself.structures import Detections

log = logging.getLogger(__name__)

SMALLEST_SIDE = 1.0
"""Shortest side of a proposal, in original pixels."""


def write_proposals(config: ProposalsConfig | None = None, /, **options: Any) -> tuple[Path, Path]:
    """Writes `proposals.json` (COCO results, category 1) and `images.json` (the images they belong to).

    Then `clipself distill --regions proposals --annotations images.json --proposals proposals.json` refines a backbone
    on them.

    Args:
        config: All settings; or give them as keywords.
        options: Fields of `ProposalsConfig`.

    Returns:
        The two files.

    Raises:
        FileNotFoundError: The detector or an image is missing.
        ValueError: Nothing was proposed at all, or the detector has no class-free proposals.
    """
    config = resolve(ProposalsConfig, None, config, **options)
    detector = open_detector(config.checkpoint, device=config.device)
    rows: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    left_out = 0
    for image_id, file, path in tqdm(list(_list_images(config)), desc="proposals"):
        try:
            picture = read_image(path)
        except ValueError as error:
            left_out += 1
            log.warning("%s; it is left out", error)
            continue
        found = detector.propose(picture, most=config.most)
        images.append(image_row(image_id, file, (picture.height, picture.width)))
        sides_N2 = found.boxes[:, 2:] - found.boxes[:, :2]
        kept = (found.scores >= config.threshold) & (sides_N2.amin(1) >= SMALLEST_SIDE)
        things = Detections(
            boxes=found.boxes[kept], scores=found.scores[kept], labels=torch.zeros(int(kept.sum()), dtype=torch.long),
            names=("object",), size=(picture.height, picture.width),
        )  # fmt: skip
        rows += result_rows(things, image_id=image_id)
    if left_out:
        log.warning("%d of %d images could not be read and are left out", left_out, left_out + len(images))
    if not rows:
        raise ValueError(f"no proposal scores {config.threshold} or more; lower --threshold")
    held = {"images": images, "annotations": [], "categories": category_rows(["object"])}
    return (
        write_text(config.out / "proposals.json", json.dumps(rows)),
        write_text(config.out / "images.json", json.dumps(held)),
    )


def _list_images(config: ProposalsConfig) -> Iterator[tuple[Any, str, Path]]:
    """Id, file name and path of each image."""
    if config.annotations is None:
        folder = ImageFolder(config.images)
        for number, (name, path) in enumerate(zip(folder.names, folder.paths, strict=True), start=1):
            yield number, name, path
    else:
        listed = CocoImages(config.annotations, config.images, needs_boxes=False)
        for image_id, path in zip(listed.ids, listed.paths, strict=True):
            yield image_id, str(path.relative_to(config.images)), path
