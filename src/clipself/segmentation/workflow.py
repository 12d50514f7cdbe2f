"""`segment evaluate`, `segment table` and `segment predict` as functions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.devices import pick_device
from clipself.backbones.loading import load_clip
from clipself.data.images import read_image
from clipself.data.semantic import names_to_segment, open_semantic, write_index_map
from clipself.data.sources import ImageFolder
from clipself.files import write_json
from clipself.segmentation.build import CARD, Model, load_segmenter
from clipself.segmentation.catseg import CatSeg
from clipself.segmentation.catseg_inference import CatSegInference
from clipself.segmentation.config import SegmentEvaluateConfig, SegmentPredictConfig, SegmentTableConfig
from clipself.segmentation.evaluate import score_segmenter
from clipself.segmentation.report import SegmentationReport, compare_reports
from clipself.segmentation.segmenters import CatSegSegmenter, SanSegmenter, Segmenter
from clipself.segmentation.train import split_groups
from clipself.segmentation.training_free import TrainingFree, TrainingFreeSettings
from clipself.text.vocab import load_vocab
from clipself.viz.segments import draw_panels, write_picture

CANVAS_OF_CROP = 640 / 384
"""Side of CAT-Seg's canvas over that of its windows, as published."""


def segmenter_of(
    model: Model,
    names: Sequence[str],
    *,
    crop: int,
    mode: Any = "sliding",
    canvas: int | None = None,
    class_cap: int | None = None,
    shortest: int | None = None,
) -> Segmenter:
    """A trained model with a vocabulary; windows of the training crop on a canvas 640 / 384 times as wide."""
    if isinstance(model, CatSeg):
        side = canvas or round(crop * CANVAS_OF_CROP)
        how = CatSegInference(mode=mode, canvas=side, window=min(crop, side), class_cap=class_cap)
        return CatSegSegmenter(model, names, how=how, shortest=shortest or side)
    return SanSegmenter(model, names, shortest=shortest or crop)


def evaluate_segmenters(config: SegmentEvaluateConfig | None = None, /, **options: Any) -> list[SegmentationReport]:
    """Evaluates trained models on a labelled set, prints the table and writes JSON and pictures.

    Args:
        config: All settings; or give them as keywords.
        options: Fields of `SegmentEvaluateConfig`.

    Raises:
        ValueError: A setting, the data or a model does not fit.
        FileNotFoundError: A file is missing.
    """
    config = config if config is not None else SegmentEvaluateConfig(**options)
    data = open_semantic(config.data, images=config.images)
    reports: list[SegmentationReport] = []
    for folder in config.models:
        model, card = load_segmenter(folder, device=pick_device(config.device))
        segmenter = segmenter_of(
            model, names_to_segment(data), crop=card["crop"], mode=config.mode, canvas=config.canvas,
            class_cap=config.class_cap, shortest=config.shortest,
        )  # fmt: skip
        place = None if config.out is None else config.out / f"{len(reports) + 1}_{folder.name}"
        settings = {"mode": config.mode, "canvas": config.canvas, "class_cap": config.class_cap, "clip": card["model"]}
        report = score_segmenter(
            segmenter, data, title=str(folder), groups=split_groups(data.class_names, card["names"]),
            limit=config.limit, settings=settings, pictures=None if place is None else place / "pictures",
            maps=place / "maps" if place is not None and config.save_maps else None,
        )  # fmt: skip
        reports.append(report)
        if place is not None:
            report.write(place / "scores.json")
        if config.per_class:
            print(report.to_table(classes=True))
    print(compare_reports(reports))
    return reports


def training_free_table(config: SegmentTableConfig | None = None, /, **options: Any) -> list[SegmentationReport]:
    """Every readout on every model, without training; prints the table and writes JSON and pictures.

    Args:
        config: All settings; or give them as keywords.
        options: Fields of `SegmentTableConfig`.

    Raises:
        ValueError: A setting, the data or a model does not fit.
        FileNotFoundError: A file is missing.
    """
    config = config if config is not None else SegmentTableConfig(**options)
    data = open_semantic(config.data, images=config.images)
    names = data.class_names
    unseen = set(load_vocab(config.unseen).names) if config.unseen is not None else set()
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


def predict_segments(config: SegmentPredictConfig | None = None, /, **options: Any) -> Path:
    """Names every pixel of pictures; writes an overlay with legend, an index PNG and one JSON.

    Args:
        config: All settings; or give them as keywords.
        options: Fields of `SegmentPredictConfig`.

    Returns:
        The JSON: for each picture its classes with their share of the pixels.

    Raises:
        ValueError: There are no names, or a picture or model does not fit.
        FileNotFoundError: A file is missing.
    """
    config = config if config is not None else SegmentPredictConfig(**options)
    segmenter, paths = _open_segmenter(config), _list_pictures(config.images)
    results = []
    for path in tqdm(paths, unit="image", disable=len(paths) < 2, leave=False):
        image = read_image(path)
        labels = segmenter.label(image).cpu()
        panel = draw_panels(image, {"segments": labels}, segmenter.names, height=min(480, image.height))
        write_picture(config.out / f"{path.stem}.overlay.png", panel)
        write_index_map(config.out / f"{path.stem}.png", labels.numpy())
        counts = labels.flatten().bincount(minlength=len(segmenter.names))
        ranked = sorted(((int(n), index) for index, n in enumerate(counts) if n), reverse=True)
        shares = [
            {"name": segmenter.names[index], "index": index, "share": round(n / labels.numel(), 5)}
            for n, index in ranked
        ]
        results.append({"image": str(path), "map": f"{path.stem}.png", "classes": shares})
    return write_json(config.out / "results.json", {"names": list(segmenter.names), "images": results})


def _list_pictures(images: Sequence[Path]) -> list[Path]:
    if not images:
        raise ValueError("there are no pictures; pass files or folders")
    return [path for one in images for path in (ImageFolder(one).paths if one.is_dir() else [one])]


def _open_segmenter(config: SegmentPredictConfig) -> Segmenter:
    device = pick_device(config.device)
    names = None if config.names is None else read_names(config.names)
    if (Path(config.model) / CARD).is_file():
        model, card = load_segmenter(config.model, device=device)
        return segmenter_of(model, names or card["names"], crop=card["crop"])
    if names is None:
        raise ValueError(f"{config.model} was never trained on names; pass some: --names 'cat, dog, grass'")
    clip: DenseCLIP = load_clip(config.model, config.pretrained, device=device)
    return TrainingFree(clip, names, TrainingFreeSettings(readout=config.readout))


def read_names(names: str) -> list[str]:
    """Names with commas between them, a packaged vocabulary, or a text file of one name a line."""
    if names.endswith(".txt"):
        return list(load_vocab(names).names)
    found = [name.strip() for name in names.split(",") if name.strip()]
    if len(found) < 2 and "_" in names:
        return list(load_vocab(names).names)
    return found
