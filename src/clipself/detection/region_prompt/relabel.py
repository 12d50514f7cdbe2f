"""CLIP-aligned labels: boxes of base classes under the names that a CLIP gives them."""

import json
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clipself.backbones.devices import pick_device
from clipself.backbones.loading import load_clip
from clipself.backbones.text import make_vocabulary
from clipself.data.coco.instances import read_instances
from clipself.data.coco.kinds import open_coco
from clipself.data.detection import CocoDetection
from clipself.detection.region_prompt.classify import classify_boxes, framing_of
from clipself.detection.region_prompt.config import RelabelConfig
from clipself.detection.region_prompt.regions import clip_regions
from clipself.engine.resolve import resolve
from clipself.files import write_text
from clipself.text.names import listed

log = logging.getLogger(__name__)

SHOWN = 8
"""Most frequent changes that are printed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RelabelReport:
    """What was renamed.

    Attributes:
        out: The file that was written.
        boxes: Boxes that the CLIP was asked about.
        agreed: Those whose name stays.
        untouched: Rows that it was not asked about: of other classes, crowds, and what cannot be used.
        changes: (was, is) -> how many.
    """

    out: Path
    boxes: int
    agreed: int
    untouched: int
    changes: Counter[tuple[str, str]]

    @property
    def agreement(self) -> float:
        """Share of boxes whose name stays."""
        return self.agreed / max(1, self.boxes)

    def to_table(self) -> str:
        """The agreement, and what was renamed most often."""
        lines = [
            f"{self.out}: {self.agreed} of {self.boxes} boxes keep their name ({100 * self.agreement:.1f} %), "
            f"{self.untouched} rows untouched"
        ]
        return "\n".join(
            [*lines, *(f"  {count:8d}  {was} -> {now}" for (was, now), count in self.changes.most_common(SHOWN))]
        )


def relabel(config: RelabelConfig | None = None, /, **options: Any) -> RelabelReport:
    """Writes an instances file once more, with the category of every base box as a CLIP sees it.

    Nothing is dropped and there is no threshold: rows of other classes and crowds stay as they are.

    Source: CORA (arXiv:2303.13076), Sec. 3.2, CLIP-aligned labeling.

    Args:
        config: All settings; or give them as keywords.
        options: Fields of `RelabelConfig`.

    Raises:
        ValueError: The file, the prompt or the names do not fit.
        FileNotFoundError: A file is missing.
    """
    config = resolve(RelabelConfig, None, config, **options)
    held = open_coco(config.annotations, images=config.images)
    table = read_instances(held)
    data = CocoDetection(table, config.images, split=config.split, base=listed(config.base), novel=listed(config.novel))
    clip = load_clip(config.model, config.pretrained, text_from=config.text_from, device=pick_device(config.device))
    regions = clip_regions(clip, readout=config.regions.readout).to(clip.device)
    if config.prompt is not None:
        regions.take_prompt(config.prompt)
    classes = data.classes
    texts_KD = make_vocabulary(clip, classes.base, base=classes.base, **config.regions.spoken).texts_KD[:-1]
    ids = [identity for identity, base in zip(classes.ids, classes.is_base, strict=True) if base]
    named = classify_boxes(
        regions, texts_KD, data, framing_of(config.regions, clip), temperature=config.regions.temperature,
        batch_size=config.batch_size, workers=config.workers,
    )  # fmt: skip
    rows, changes, boxes, agreed = list(held.value["annotations"]), Counter[tuple[str, str]](), 0, 0
    for index, logits_RK in tqdm(named, total=len(data), desc="relabelling"):
        found = logits_RK.argmax(1).tolist()
        for row, was, now in zip(data.rows(index).tolist(), data.labels(index).tolist(), found, strict=True):
            rows[row] = {**rows[row], "category_id": ids[now]}
            boxes, agreed = boxes + 1, agreed + (classes.names[was] == classes.base[now])
            if classes.names[was] != classes.base[now]:
                changes[classes.names[was], classes.base[now]] += 1
    path = write_text(config.out, json.dumps({**held.value, "annotations": rows}))
    return RelabelReport(out=path, boxes=boxes, agreed=agreed, untouched=len(rows) - boxes, changes=changes)
