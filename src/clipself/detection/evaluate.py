"""Scores a detector on a COCO or LVIS file: by group, by class, by other words for the same things."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clipself.data.coco.instances import Instances, read_instances
from clipself.data.coco.write import truth_rows
from clipself.data.detection import ClassSplit, CocoDetection
from clipself.data.limit import first_of
from clipself.detection.config import DetectionEvaluateConfig
from clipself.detection.detector import open_detector
from clipself.detection.protocol import NamedDetector
from clipself.detection.report import DetectionReport, class_table
from clipself.detection.results import to_coco
from clipself.engine.resolve import resolve
from clipself.engine.share import Share
from clipself.files import read_json, write_json, write_text
from clipself.metrics.coco_ap import DetectionScores, coco_ap
from clipself.metrics.lvis_ap import lvis_ap
from clipself.renamed import old_names
from clipself.text.names import listed
from clipself.text.templates import spoken_name
from clipself.text.vocabulary import load_vocabulary

__getattr__ = old_names(__name__)


def evaluate_detector(config: DetectionEvaluateConfig | None = None, /, **options: Any) -> list[DetectionReport]:
    """Scores a trained detector; writes results and JSON where asked.

    Args:
        config: All settings; or give them as keywords.
        options: Fields of `DetectionEvaluateConfig`.

    Returns:
        The report, then one with synonyms and one with more names where these are given.

    Raises:
        ValueError: A setting, an annotation or the detector does not fit.
        FileNotFoundError: A file is missing.
    """
    config = resolve(DetectionEvaluateConfig, None, config, **options)
    detector = open_detector(config.checkpoint, device=config.device)
    named = {name: getattr(config, name) for name in ("alpha", "beta", "clip_temperature", "fusion")}
    changes = {name: value for name, value in named.items() if value is not None} | config.scoring
    if changes:
        detector.change_scoring(**changes)
    told = config.split or config.base or config.novel
    table = read_instances(config.annotations, masks=True, images=config.images)
    data = CocoDetection(
        table, config.images, split=config.split, base=listed(config.base),
        novel=listed(config.novel) if told else unseen_names(table, detector.trained_names), train=False,
    )  # fmt: skip
    runs: list[tuple[str, Mapping[str, str], Sequence[str]]] = [(config.checkpoint, {}, ())]
    if config.synonyms is not None:
        runs.append(("with synonyms", read_synonyms(config.synonyms, data.classes.names), ()))
    if config.more_names is not None:
        runs.append(("with more names", {}, load_vocabulary(config.more_names).names))
    reports = []
    for title, synonyms, more in runs:
        report = score_detector(
            detector, data, limit=config.limit, synonyms=synonyms, more_names=more, metric=config.metric, title=title,
            batch_size=config.batch_size,
        )  # fmt: skip
        reports.append(report)
    if len(reports[0].without_truth) == len(reports[0].per_class):
        raise ValueError(f"{data.source}: nothing is labelled in the {reports[0].images} images that were looked at")
    if config.out is not None:
        for report, suffix in zip(reports, ("", *(f"_{place}" for place in range(1, len(reports)))), strict=True):
            write_text(config.out / f"results{suffix}.json", json.dumps(list(report.results)))
        write_json(config.out / "scores.json", [report.to_json() for report in reports])
        write_text(config.out / "per_class.txt", class_table(reports[0]) + "\n")
    return reports


def unseen_names(table: Instances, trained: Sequence[str]) -> list[str] | None:
    """Categories of a file that training did not see, compared as they are spoken; None where nothing is known."""
    if not trained:
        return None
    seen = set(map(spoken_name, trained))
    return [one.name for one in table.categories if spoken_name(one.name) not in seen]


def read_synonyms(path: Path, names: Sequence[str]) -> dict[str, str]:
    """{name: another word}.

    Raises:
        ValueError: It is not of that form, or holds a name that is no class.
    """
    held = read_json(path)
    if not isinstance(held, Mapping) or not all(isinstance(word, str) for word in held.values()):
        raise ValueError(f'{path} is not a table of synonyms; write {{"couch": "sofa"}}')
    unknown = sorted(set(held) - set(names))
    if unknown:
        raise ValueError(f"{path} has a synonym for {unknown[0]!r}, which is not a class of the annotations")
    return {str(name): str(word) for name, word in held.items()}


def score_detector(
    detector: NamedDetector,
    data: CocoDetection,
    *,
    limit: int | None = None,
    synonyms: Mapping[str, str] | None = None,
    more_names: Sequence[str] = (),
    metric: str = "auto",
    title: str = "detector",
    batch_size: int = 1,
    progress: bool = True,
    share: Share | None = None,
) -> DetectionReport:
    """Runs a detector over the images and scores what it finds.

    Args:
        detector: Anything with `stream`.
        data: Images with all boxes of base and novel classes.
        limit: First images only.
        synonyms: Other words for some of the names.
        more_names: Names that are asked for besides; what is found under them counts for nothing.
        metric: "coco", "lvis" or "auto".
        title: Name in the report.
        batch_size: Images at once.
        progress: Whether to show a bar.
        share: Cuts the images among the processes of a run.
    """
    classes = data.classes
    count = first_of(len(data), limit)
    asked = [(synonyms or {}).get(name, name) for name in classes.names]
    asked += [name for name in more_names if name not in set(asked)]
    results: list[dict[str, Any]] = []
    known = len(classes.ids)

    def look_at(indices: Sequence[int]) -> Iterator[list[dict[str, Any]]]:
        if not indices:
            return
        found_of = detector.stream([data.paths[index] for index in indices], asked, batch_size=batch_size)
        for index, found in zip(indices, found_of, strict=True):
            data.check_size(index, found.size)
            yield to_coco(found[found.labels < known], image_id=data.ids[index], category_ids=classes.ids)

    each = (share or Share()).of(count, look_at)
    for rows in tqdm(each, total=count, desc=title[-30:], disable=not progress):
        results += rows
    truth = truth_of(data, count, masks=bool(results) and "segmentation" in results[0])
    has_masks = _has_masks(truth)
    if metric == "lvis" or (metric == "auto" and any("neg_category_ids" in row for row in truth["images"])):
        scores = lvis_ap(truth, results, iou_type="segm" if has_masks else "bbox", told=True)
        kinds = {"lvis": "mask" if has_masks else "box"}
    else:
        scores = coco_ap(truth, results, groups=classes.groups(), told=True)
        kinds = {}
    return DetectionReport(
        title=title if not kinds else f"{title} ({kinds['lvis']} AP)",
        images=count,
        listed=len(data),
        reading=data.report,
        summary={name: 100 * value for name, value in scores.summary.items()},
        per_class=tuple(_class_rows(classes, scores)),
        results=tuple(results),
    )


def _has_masks(truth: Mapping[str, Any]) -> bool:
    return bool(truth["annotations"]) and all(row.get("segmentation") for row in truth["annotations"])


def truth_of(data: CocoDetection, count: int, *, masks: bool = False) -> dict[str, Any]:
    """The annotation file, cut to the classes and the images that are scored; crowds stay, they excuse detections."""
    return truth_rows(data.table, image_ids=data.ids[:count], category_ids=data.classes.ids, masks=masks)


def _class_rows(classes: ClassSplit, scores: DetectionScores) -> Iterator[Mapping[str, Any]]:
    for category, name, base in zip(classes.ids, classes.names, classes.is_base, strict=True):
        yield {
            "name": name,
            "group": "base" if base else "novel",
            "AP": 100 * scores.ap_per_class.get(category, float("nan")),
            "AP50": 100 * scores.ap50_per_class.get(category, float("nan")),
        }
