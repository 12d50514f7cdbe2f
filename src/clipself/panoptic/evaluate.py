"""Evaluation: the same masks judged by several CLIPs in several ways, against panoptic labels."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from clipself.backbones.devices import pick_device
from clipself.choices import pick
from clipself.data.limit import first_of
from clipself.data.panoptic import PanopticFile, PanopticImages
from clipself.engine.fields import plain_values
from clipself.engine.resolve import resolve
from clipself.engine.share import Share
from clipself.panoptic.config import PanopticEvaluateConfig
from clipself.panoptic.evaluation_folder import EvaluationFolder, Way
from clipself.panoptic.generators.mask_set import MaskGenerator
from clipself.panoptic.generators.table import generator_of, tell_files
from clipself.panoptic.judge import ClipJudge, open_judge
from clipself.panoptic.meters import PanopticMeters, covering_masks
from clipself.panoptic.mixture import MIXTURES, mix_scores, seen_by
from clipself.panoptic.report import PanopticReport
from clipself.panoptic.settings import Rules
from clipself.panoptic.to_maps import finish, resize_masks


def evaluate_panoptic(
    config: PanopticEvaluateConfig | Mapping[str, Any] | str | Path | None = None, /, **options: Any
) -> PanopticReport:
    """Evaluates what the settings name; writes JSON, predictions and pictures where asked.

    Args:
        config: All settings, or a file of them; or give them as keywords.
        options: Fields of `PanopticEvaluateConfig`; paths may be strings, tables stand for nested settings.

    Raises:
        ValueError: A setting, an annotation, the masks or a model do not fit.
        FileNotFoundError: A file is missing.
    """
    config = resolve(PanopticEvaluateConfig, None, config, **options)
    device = pick_device(config.device)
    data = PanopticFile(config.annotations, config.images, segments=config.segments)
    generator = generator_of(config.checkpoint, config.masks, device=device)
    ids = [row.image.id for row in data.rows[: config.limit]]
    tell_files(generator, list(map(str, data.paths[: config.limit])), ids)
    judges = {
        model: open_judge(
            model,
            config.pretrained,
            text_from=config.text_from,
            names=data.class_names,
            settings=config.judge,
            device=device,
        )
        for model in config.model
    }
    folder = None
    if config.out is not None:
        files = [path.relative_to(config.images).as_posix() for path in data.paths]
        folder = EvaluationFolder(config.out, data, files=files, pictures=config.pictures)
    with folder or nullcontext():
        report = score_panoptic(
            generator, judges, data, scores=config.scores, rules=config.rules, limit=config.limit, folder=folder,
            settings=plain_values(config),
        )  # fmt: skip
    if folder is not None:
        report.write(folder.folder / "scores.json")
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
    folder: EvaluationFolder | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: bool = True,
    share: Share | None = None,
) -> PanopticReport:
    """Evaluates loaded parts; a picture's masks are made once for all judges and ways of scoring.

    Args:
        generator: Where masks come from.
        judges: Title -> CLIP, made for the names of `data`.
        data: Pictures with labels.
        scores: Rows of `MIXTURES`; "generator" is scored once, since no judge takes part.
        rules: Thresholds.
        limit: First pictures only.
        folder: Where predictions and pictures go.
        settings: Kept in the report.
        progress: Whether to show a bar.
        share: Cuts the pictures among the processes of a run.

    Raises:
        ValueError: A way of scoring is unknown, wants class scores that the masks do not have, or the limit is below 1.
    """
    ways = list_ways(list(judges), scores)
    score = _PictureScorer(generator=generator, judges=judges, data=data, ways=ways, rules=rules or Rules(),
                           seen=seen_by(generator, data.class_names), folder=folder)  # fmt: skip
    meters = {way: PanopticMeters(data.class_is_thing) for way in ways}
    count, without_masks = first_of(len(data), limit), 0
    each = (share or Share()).of(count, lambda indices: map(score, indices))
    for empty, counted in tqdm(each, total=count, desc="panoptic", unit="image", disable=not progress, leave=False):
        without_masks += empty
        for way in ways:
            meters[way].merge(counted[way])
    return PanopticReport(
        rows=tuple(meter.row(model=title, scores=name) for (title, name), meter in meters.items()),
        images=count,
        listed=len(data),
        reading=data.report,
        without_masks=without_masks,
        class_names=tuple(data.class_names),
        without_truth=next(iter(meters.values())).without_truth(data.class_names),
        settings=dict(settings or {}),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _PictureScorer:
    """Scores one picture in every way."""

    generator: MaskGenerator
    judges: Mapping[str, ClipJudge]
    data: PanopticImages
    ways: Sequence[Way]
    rules: Rules
    seen: Sequence[bool]
    folder: EvaluationFolder | None

    def __call__(self, index: int) -> tuple[bool, dict[Way, PanopticMeters]]:
        """Whether there are no masks, and the meters of this picture."""
        truth, names, is_thing = self.data.read(index), self.data.class_names, self.data.class_is_thing
        masks = self.generator(truth.image, file=truth.name, names=names)
        full = resize_masks(masks.masks_QYX, (truth.image.height, truth.image.width))
        covering = covering_masks(full, truth)
        meters = {way: PanopticMeters(is_thing) for way in self.ways}
        judged = {title: judge(truth.image, masks.masks_QYX) for title, judge in self.judges.items()}
        for way in self.ways:
            title, name = way
            log_scores = mix_scores(masks, judged.get(title), mixture=MIXTURES[name], seen=self.seen)
            found = finish(log_scores, full.to(log_scores.device), names=names, is_thing=is_thing, rules=self.rules)
            meters[way].update(found, truth, covering)
            if self.folder is not None:
                self.folder.add(way, index, truth, found)
        return not len(masks.masks_QYX), meters


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
