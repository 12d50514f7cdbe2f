"""Scores segmenters on a labelled set, each with one streamed confusion matrix."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from clipself.backbones.devices import pick_device
from clipself.data.images import write_index_map
from clipself.data.limit import first_of
from clipself.data.semantic import SemanticImages, names_to_segment, open_semantic
from clipself.engine.resolve import resolve
from clipself.engine.share import Share
from clipself.metrics.confusion import ConfusionMatrix
from clipself.segmentation.checkpoint import load_segmenter
from clipself.segmentation.config import SegmentationEvaluateConfig
from clipself.segmentation.report import SegmentationReport
from clipself.segmentation.segmenter import Inference, Segmenter
from clipself.segmentation.segmenters import segmenter_of
from clipself.text.templates import spoken_name
from clipself.viz.segments import draw_panels, write_picture


def evaluate_segmenters(
    config: SegmentationEvaluateConfig | None = None, /, **options: Any
) -> list[SegmentationReport]:
    """Evaluates trained models on a labelled set; writes JSON and pictures where asked.

    Args:
        config: All settings, also as a table or a file; or give them as keywords.
        options: Fields of `SegmentationEvaluateConfig`.

    Raises:
        ValueError: A setting, the data or a model does not fit.
        FileNotFoundError: A file is missing.
    """
    config = resolve(SegmentationEvaluateConfig, None, config, **options)
    data = open_semantic(config.annotations, images=config.images)
    how = Inference(mode=config.mode, canvas=config.canvas, class_cap=config.class_cap, shortest=config.shortest)
    reports: list[SegmentationReport] = []
    for folder in config.checkpoint:
        model, card = load_segmenter(folder, device=pick_device(config.device))
        segmenter = segmenter_of(model, names_to_segment(data), crop=card["crop"], how=how)
        out = None if config.out is None else config.out / f"{len(reports) + 1}_{folder.name}"
        report = score_segmenter(
            segmenter, data, title=str(folder), groups=split_groups(data.class_names, card["names"]),
            limit=config.limit, pictures=None if out is None else out / "pictures",
            settings={"mode": how.mode, "canvas": how.canvas, "class_cap": how.class_cap, "clip": card["model"]},
            maps=out / "maps" if out is not None and config.save_maps else None,
        )  # fmt: skip
        reports.append(report)
        if out is not None:
            report.write(out / "scores.json")
    return reports


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
    share: Share | None = None,
) -> SegmentationReport:
    """Evaluates a segmenter; one image and one label map are in memory at a time.

    Args:
        segmenter: With the vocabulary of the data, in its order.
        data: Labelled set.
        title: Name in the report.
        groups: Name of a group -> its classes, such as "base" and "novel".
        limit: First images only.
        settings: Kept in the report.
        pictures: Folder for panels of the first images: picture, prediction, truth.
        most_pictures: How many.
        maps: Folder for the predictions as index PNGs.
        progress: Whether to show a bar.
        share: Cuts the images among the processes of a run.

    Raises:
        ValueError: The segmenter has other classes than the data, or there is nothing to score.
    """
    if len(segmenter.names) != len(names_to_segment(data)):
        raise ValueError(
            f"the segmenter names {len(segmenter.names)} classes, the data has {len(names_to_segment(data))}; build it "
            "with the data's names"
        )
    count = first_of(len(data), limit)
    meter, spent = ConfusionMatrix(len(data.class_names), ignore_label=data.ignore_label), 0.0

    def look_at(index: int) -> tuple[ConfusionMatrix, float]:
        held, counted = data.read(index), ConfusionMatrix(len(data.class_names), ignore_label=data.ignore_label)
        begun = time.perf_counter()
        labels = segmenter.segment(held.image).labels_HW.clamp(max=len(data.class_names) - 1)
        seconds = time.perf_counter() - begun
        counted.update(labels, held.labels_HW)
        if maps is not None:
            write_index_map(maps / f"{index:06d}.png", labels.numpy())
        if pictures is not None and index < most_pictures:
            shown = {"prediction": labels, "truth": held.labels_HW}
            panel = draw_panels(held.image, shown, data.class_names, held.labels_HW)
            write_picture(pictures / f"{index:06d}.png", panel)
        return counted, seconds

    each = (share or Share()).of(count, lambda indices: map(look_at, indices))
    shown_as: dict[str, Any] = {"desc": title or "segmenting", "unit": "image", "disable": not progress}
    for counted, seconds in tqdm(each, total=count, leave=False, **shown_as):
        meter.merge(counted)
        spent += seconds
    if not meter.counts_KK.any():
        raise ValueError(
            f"no pixel of the {count} pictures read is labelled with one of the {len(data.class_names)} classes, so "
            f"that there is nothing to score; {data.ignore_label} is the value of unlabelled pixels: are these the "
            "labels of this vocabulary?"
        )
    return SegmentationReport(
        title=title or type(segmenter).__name__,
        images=count,
        listed=len(data),
        reading=data.report,
        names=tuple(data.class_names),
        scores=meter.compute(),
        groups={name: [data.class_names.index(one) for one in some] for name, some in (groups or {}).items()},
        settings=settings or {},
        seconds_per_image=spent / max(1, count),
    )


def split_groups(names: Sequence[str], learnt: Sequence[str]) -> dict[str, list[str]]:
    """Classes of an evaluation by whether training has learnt them, as they are said; one group alone is no group."""
    known = set(map(spoken_name, learnt))
    groups = {
        "base": [name for name in names if spoken_name(name) in known],
        "novel": [name for name in names if spoken_name(name) not in known],
    }
    return groups if all(groups.values()) else {}
