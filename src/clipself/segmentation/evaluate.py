"""Scores a segmenter on a labelled set with one streamed confusion matrix."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from clipself.data.semantic import SemanticImages, names_to_segment, write_index_map
from clipself.metrics.confusion import ConfusionMatrix
from clipself.segmentation.report import SegmentationReport
from clipself.segmentation.segmenters import Segmenter
from clipself.viz.segments import draw_panels, write_picture

log = logging.getLogger(__name__)


@torch.no_grad()
def score_segmenter(
    segmenter: Segmenter,
    data: SemanticImages,
    *,
    title: str = "",
    groups: Mapping[str, Sequence[str]] | None = None,
    limit: int | None = None,
    settings: Mapping[str, Any] | None = None,
    pictures: Path | None = None,
    most_pictures: int = 12,
    maps: Path | None = None,
    progress: bool = True,
) -> SegmentationReport:
    """Evaluates a segmenter; one image and one label map are in memory at a time.

    Args:
        segmenter: With the vocabulary of the data, in its order.
        data: Labelled set.
        title: Name in the report.
        groups: Name of a group -> its classes, such as "seen" and "unseen".
        limit: First images only.
        settings: Kept in the report.
        pictures: Folder for panels of the first images: picture, prediction, truth.
        most_pictures: How many.
        maps: Folder for the predictions as index PNGs.
        progress: Whether to show a bar.

    Raises:
        ValueError: The segmenter has other classes than the data.
    """
    if len(segmenter.names) != len(names_to_segment(data)):
        raise ValueError(
            f"the segmenter names {len(segmenter.names)} classes, the data has {len(names_to_segment(data))}; build it "
            "with the data's names"
        )
    count = len(data) if limit is None else min(limit, len(data))
    meter, spent = ConfusionMatrix(len(data.class_names), ignore_label=data.ignore_label), 0.0
    for index in tqdm(range(count), desc=title or "segmenting", unit="image", disable=not progress, leave=False):
        held = data.read(index)
        begun = time.perf_counter()
        labels = segmenter.label(held.image).cpu().clamp(max=len(data.class_names) - 1)
        spent += time.perf_counter() - begun
        meter.update(labels, held.labels_HW)
        if maps is not None:
            write_index_map(maps / f"{index:06d}.png", labels.numpy())
        if pictures is not None and index < most_pictures:
            shown = {"prediction": labels, "truth": held.labels_HW}
            panel = draw_panels(held.image, shown, data.class_names, held.labels_HW)
            write_picture(pictures / f"{index:06d}.png", panel)
    return SegmentationReport(
        title=title or type(segmenter).__name__,
        images=count,
        names=tuple(data.class_names),
        scores=meter.compute(),
        groups={name: [data.class_names.index(one) for one in some] for name, some in (groups or {}).items()},
        settings=settings or {},
        seconds_per_image=spent / max(1, count),
    )
