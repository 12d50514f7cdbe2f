"""Evaluation: the same masks judged by several CLIPs in several ways, against panoptic labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from clipself.backbones.devices import pick_device
from clipself.backbones.loading import load_clip
from clipself.choices import pick
from clipself.data.panoptic import PanopticFile, PanopticImages, PanopticTruth, PanopticWriter
from clipself.engine.settings import plain_values
from clipself.panoptic.config import PanopticEvaluateConfig
from clipself.panoptic.generators.mask_set import MaskGenerator
from clipself.panoptic.generators.table import open_generator
from clipself.panoptic.judge import ClipJudge
from clipself.panoptic.meters import PanopticMeters, covering_masks
from clipself.panoptic.mixture import MIXTURES, mix_scores, seen_by
from clipself.panoptic.report import PanopticReport
from clipself.panoptic.to_maps import Rules, Segmented, at_picture_size, finish
from clipself.viz.panels import lay_out
from clipself.viz.panoptic_maps import paint_segments

Way = tuple[str, str]
"""Title of the judge and row of `MIXTURES`."""


def evaluate_panoptic(config: PanopticEvaluateConfig | None = None, /, **options: Any) -> PanopticReport:
    """Evaluates what the settings name; prints the table, writes JSON, predictions and pictures where asked.

    Args:
        config: All settings; or give them as keywords.
        options: Fields of `PanopticEvaluateConfig`.

    Raises:
        ValueError: A setting, an annotation, the masks or a model do not fit.
        FileNotFoundError: A file is missing.
    """
    config = config if config is not None else PanopticEvaluateConfig(**options)
    device = pick_device(config.device)
    data = PanopticFile(config.annotations, config.images, segments=config.segments)
    generator = open_generator(config.masks, device=device)
    judges = {
        model: ClipJudge(
            load_clip(model, config.pretrained, device=device),
            data.class_names,
            by=config.judge_by,
            image_size=config.image_size,
            readout=config.readout,
            templates=config.templates,
        )
        for model in config.models
    }
    rules = Rules(object_threshold=config.object_threshold, overlap_threshold=config.overlap_threshold, top=config.top)
    keeper = None if config.out is None else _Keeper(config.out, data, pictures=config.pictures)
    report = score_panoptic(
        generator, judges, data, scores=config.scores, rules=rules, limit=config.limit, keeper=keeper,
        settings=plain_values(config),
    )  # fmt: skip
    print(report.to_table())
    if config.out is not None and keeper is not None:
        keeper.close()
        report.write(config.out / "panoptic_report.json")
    return report


@torch.no_grad()
def score_panoptic(
    generator: MaskGenerator,
    judges: Mapping[str, ClipJudge],
    data: PanopticImages,
    *,
    scores: Sequence[str] = ("clip",),
    rules: Rules | None = None,
    limit: int | None = None,
    keeper: "_Keeper | None" = None,
    settings: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> PanopticReport:
    """Evaluates loaded parts; a picture's masks are made once for all judges and ways of scoring.

    Args:
        generator: Where masks come from.
        judges: Title -> CLIP, made for the names of `data`.
        data: Pictures with labels.
        scores: Rows of `MIXTURES`; "generator" is scored once, since no judge takes part.
        rules: Thresholds.
        limit: First pictures only.
        keeper: Where predictions and pictures go.
        settings: Kept in the report.
        progress: Whether to show a bar.

    Raises:
        ValueError: A way of scoring is unknown, or wants class scores that the masks do not have.
    """
    rules, seen = rules or Rules(), seen_by(generator, data.class_names)
    ways = list_ways(list(judges), scores)
    meters = {way: PanopticMeters(data.class_is_thing) for way in ways}
    count = len(data) if limit is None else min(limit, len(data))
    for index in tqdm(range(count), desc="panoptic", unit="image", disable=not progress, leave=False):
        truth = data.read(index)
        masks = generator(truth.image, file=truth.name, names=data.class_names)
        full = at_picture_size(masks.masks_QYX, truth.image)
        covering = covering_masks(full, truth)
        judged = {title: judge(truth.image, masks.masks_QYX) for title, judge in judges.items()}
        for way in ways:
            title, name = way
            log_scores = mix_scores(masks, judged.get(title), mixture=MIXTURES[name], seen=seen)
            found = finish(
                log_scores,
                full.to(log_scores.device),
                names=data.class_names,
                is_thing=data.class_is_thing,
                rules=rules,
            )
            meters[way].update(found, truth, covering)
            if keeper is not None:
                keeper.add(way, index, truth, found)
    return PanopticReport(
        rows=tuple(meter.row(model=title, scores=name) for (title, name), meter in meters.items()),
        images=count,
        class_names=tuple(data.class_names),
        settings=dict(settings or {}),
    )


def list_ways(titles: Sequence[str], scores: Sequence[str]) -> list[Way]:
    """Every judge with every way of scoring; the generator alone needs no judge.

    Raises:
        ValueError: There is no way, or one is unknown.
    """
    for name in scores:
        pick(MIXTURES, name, what="mixture of scores")
    ways = [("-", "generator")] if "generator" in scores else []
    ways += [(title, name) for name in scores if name != "generator" for title in titles]
    if not ways:
        raise ValueError("nothing would be scored; name at least one model and one of the scores")
    return ways


class _Keeper:
    """Predictions of every way in COCO's format, and one drawing for each of the first pictures."""

    def __init__(self, folder: Path, data: PanopticImages, *, pictures: int) -> None:
        self.folder, self.data, self.pictures = folder, data, pictures
        self._writers: dict[Way, PanopticWriter] = {}
        self._columns: dict[int, list[tuple[str, Any]]] = {}

    def add(self, way: Way, index: int, truth: PanopticTruth, found: Segmented) -> None:
        """Keeps one picture of one way."""
        if way not in self._writers:
            self._writers[way] = PanopticWriter(
                self.folder / f"{len(self._writers) + 1}_{Path(way[0]).name}_{way[1]}",
                class_ids=self.data.class_ids,
                class_names=self.data.class_names,
                class_is_thing=self.data.class_is_thing,
            )
        ids = found.panoptic.ids_HW.cpu().numpy()
        labels = {segment.id: segment.label for segment in found.panoptic.segments}
        self._writers[way].add(
            image_id=truth.image_id, name=truth.name, ids_HW=ids, labels=labels,
            scores={segment.id: segment.score for segment in found.panoptic.segments},
        )  # fmt: skip
        if index < self.pictures:
            if index not in self._columns:
                true_labels = {segment.id: segment.label for segment in truth.segments}
                drawn = paint_segments(truth.image, truth.ids_HW, true_labels, self.data.class_names)
                self._columns[index] = [("truth", drawn)]
            title = way[1] if way[0] == "-" else f"{Path(way[0]).name}, {way[1]}"
            self._columns[index].append((title, paint_segments(truth.image, ids, labels, self.data.class_names)))

    def close(self) -> None:
        """Writes what is complete only at the end."""
        for writer in self._writers.values():
            writer.close()
        for index, columns in self._columns.items():
            self.folder.mkdir(parents=True, exist_ok=True)
            lay_out([columns], height=320).save(self.folder / f"picture_{index:03d}.png")
