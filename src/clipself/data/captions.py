"""Captions of pictures, in COCO's format."""

import logging
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from clipself.data.coco.kinds import Opened, open_coco, rows_of
from clipself.data.coco.rows import Id, clean_id

log = logging.getLogger(__name__)


def read_captions(source: str | Path | Opened) -> dict[Id, list[str]]:
    """The captions of each picture, by its id.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no captions file, or holds none that can be read.
    """
    opened = open_coco(source).require("captions", wanted="a COCO captions JSON, such as captions_train2017.json")
    rows = opened.value if isinstance(opened.value, list) else rows_of(opened, "annotations")
    captions: dict[Id, list[str]] = defaultdict(list)
    for row in rows:
        image, said = (clean_id(row.get("image_id")), row.get("caption")) if isinstance(row, Mapping) else (None, None)
        if image is not None and isinstance(said, str) and said.strip():
            captions[image].append(said.strip())
    read = sum(map(len, captions.values()))
    if not read:
        raise ValueError(f"{opened.source} holds no caption of a picture; its rows need image_id and caption")
    if read < len(rows):
        log.warning("%s: %d of %d rows hold a caption of a picture", opened.source, read, len(rows))
    return dict(captions)
