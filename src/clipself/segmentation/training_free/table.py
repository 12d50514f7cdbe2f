"""Every readout on every model, without training: `segment table` as a function."""

from collections import Counter
from pathlib import Path
from typing import Any

from clipself.backbones.devices import pick_device
from clipself.backbones.loading import load_clip
from clipself.data.semantic import names_to_segment, open_semantic
from clipself.engine.resolve import resolve
from clipself.segmentation.config import SegmentationTableConfig
from clipself.segmentation.evaluate import score_segmenter, split_groups
from clipself.segmentation.report import SegmentationReport
from clipself.segmentation.training_free.segmenter import TrainingFree
from clipself.segmentation.training_free.settings import TrainingFreeSettings
from clipself.text.names import listed


def training_free_table(config: SegmentationTableConfig | None = None, /, **options: Any) -> list[SegmentationReport]:
    """Every readout on every model, without training; writes JSON and pictures where asked.

    Args:
        config: All settings, also as a table or a file; or give them as keywords.
        options: Fields of `SegmentationTableConfig`.

    Raises:
        ValueError: A setting, the data or a model does not fit.
        FileNotFoundError: A file is missing.
    """
    config = resolve(SegmentationTableConfig, None, config, **options)
    protocols = [
        TrainingFreeSettings(
            readout=readout, templates=config.templates, shortest=config.shortest, window=config.window,
            stride=config.stride, threshold=config.threshold,
        )
        for readout in config.readouts
    ]  # fmt: skip
    data = open_semantic(config.annotations, images=config.images)
    names = data.class_names
    novel = set(listed(config.novel) or ())
    groups = split_groups(names, [name for name in names if name not in novel])
    shorts = [Path(model).name for model in config.model]
    reports: list[SegmentationReport] = []
    for model, short in zip(config.model, shorts, strict=True):
        clip = load_clip(model, config.pretrained, text_from=config.text_from, device=pick_device(config.device))
        shown = short if Counter(shorts)[short] == 1 else model
        for protocol in protocols:
            folder = f"{len(reports) + 1}_{short}-{protocol.readout}"
            out = None if config.out is None else config.out / folder
            report = score_segmenter(
                TrainingFree(clip, names_to_segment(data), protocol), data, title=f"{shown} {protocol.readout}",
                groups=groups, limit=config.limit, pictures=out,
                settings={"readout": protocol.readout, "shortest": config.shortest, "window": config.window,
                          "stride": config.stride, "threshold": config.threshold, "clip": model},
            )  # fmt: skip
            reports.append(report)
            if out is not None:
                report.write(out / "scores.json")
    return reports
