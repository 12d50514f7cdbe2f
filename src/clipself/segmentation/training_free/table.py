"""Every readout on every model, without training: `segment table` as a function."""

from pathlib import Path
from typing import Any

from clipself.backbones.devices import pick_device
from clipself.backbones.loading import load_clip
from clipself.data.semantic import names_to_segment, open_semantic
from clipself.segmentation.config import SegmentationTableConfig
from clipself.segmentation.evaluate import score_segmenter, split_groups
from clipself.segmentation.report import SegmentationReport, compare_reports
from clipself.segmentation.training_free.segmenter import TrainingFree
from clipself.segmentation.training_free.settings import TrainingFreeSettings
from clipself.text.vocabulary import load_vocabulary


def training_free_table(config: SegmentationTableConfig | None = None, /, **options: Any) -> list[SegmentationReport]:
    """Every readout on every model, without training; prints the table and writes JSON and pictures.

    Args:
        config: All settings; or give them as keywords.
        options: Fields of `SegmentationTableConfig`.

    Raises:
        ValueError: A setting, the data or a model does not fit.
        FileNotFoundError: A file is missing.
    """
    config = config if config is not None else SegmentationTableConfig(**options)
    data = open_semantic(config.data, images=config.images)
    names = data.class_names
    unseen = set(load_vocabulary(config.unseen).names) if config.unseen is not None else set()
    groups = split_groups(names, [name for name in names if name not in unseen])
    reports = []
    for model in config.models:
        clip = load_clip(model, config.pretrained, device=pick_device(config.device))
        for method in config.methods:
            settings = TrainingFreeSettings(
                readout=method, templates=config.templates, shortest=config.shortest, window=config.window,
                stride=config.stride, threshold=config.threshold,
            )  # fmt: skip
            title = f"{Path(model).name} {method}"
            place = None if config.out is None else config.out / title.replace(" ", "-")
            report = score_segmenter(
                TrainingFree(clip, names_to_segment(data), settings), data, title=title, groups=groups,
                limit=config.limit, settings={"readout": method, "shortest": config.shortest, "window": config.window,
                          "stride": config.stride, "threshold": config.threshold, "clip": model},
                pictures=place,
            )  # fmt: skip
            reports.append(report)
            if place is not None:
                report.write(place / "scores.json")
    print(compare_reports(reports))
    return reports
