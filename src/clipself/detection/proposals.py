"""Class-free proposals of a folder of images, in the form that self-distillation reads."""

import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clipself.data.images import read_image
from clipself.data.sources import CocoImages, ImageFolder
from clipself.detection.config import ProposalsConfig
from clipself.detection.detector import Detector
from clipself.files import write_text
from clipself.ops.boxes import xyxy_to_xywh

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
        ValueError: Nothing was proposed at all.
    """
    config = config if config is not None else ProposalsConfig(**options)
    detector = Detector.from_checkpoint(config.detector, device=config.device)
    if config.annotations is None:
        paths = ImageFolder(config.images).paths
        ids: list[Any] = list(range(1, len(paths) + 1))
    else:
        listed = CocoImages(config.annotations, config.images, needs_boxes=False)
        paths, ids = listed.paths, listed.ids
    rows: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    for image_id, path in zip(ids, tqdm(paths, desc="proposals"), strict=True):
        picture = read_image(path)
        found = detector.propose(picture, most=config.most)
        name = str(path.relative_to(config.images))
        images.append({"id": image_id, "file_name": name, "height": picture.height, "width": picture.width})
        boxes = xyxy_to_xywh(found.boxes).tolist()
        rows += [
            {
                "image_id": image_id,
                "category_id": 1,
                "bbox": [round(value, 2) for value in box],
                "score": round(score, 5),
            }
            for box, score in zip(boxes, found.scores.tolist(), strict=True)
            if score >= config.threshold and min(box[2:]) >= SMALLEST_SIDE
        ]
    if not rows:
        raise ValueError(f"no proposal scores {config.threshold} or more; lower --threshold")
    held = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "object"}]}
    return (
        write_text(config.out / "proposals.json", json.dumps(rows)),
        write_text(config.out / "images.json", json.dumps(held)),
    )
