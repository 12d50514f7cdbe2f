"""Classifies labelled regions by the dense map, and by image crops as the upper bound.

Source: CLIPSelf (arXiv:2310.01403), Table 2, by the released evaluation's protocol.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.devices import pick_device
from clipself.backbones.loading import load_clip
from clipself.backbones.readouts import find_readout
from clipself.backbones.refinement import dense_side, refinement_of
from clipself.backbones.text import embed_names
from clipself.data.labelled import LabelledImages, RegionSamples, open_labelled
from clipself.data.preprocess import Preprocess
from clipself.data.workers import leave_stopping_to_the_run, plain_errors
from clipself.engine.resolve import resolve
from clipself.engine.share import Share
from clipself.metrics.accuracy import MeanClassAccuracy
from clipself.ops.patches import require_whole
from clipself.ops.pooling import pool_boxes, pool_masks
from clipself.ops.windows import resize_map
from clipself.regions.config import MODES, RegionsEvaluateConfig
from clipself.regions.report import ModeScore, RegionReport
from clipself.structures import RegionSample

CROPS_AT_ONCE = 64
"""Image crops in one forward pass."""


def evaluate_regions(config: RegionsEvaluateConfig | None = None, /, **options: Any) -> list[RegionReport]:
    """Evaluates one or several models on a COCO panoptic or instances file and writes the JSON.

    Args:
        config: All settings; or give them as keywords.
        options: Fields of `RegionsEvaluateConfig`.

    Returns:
        One report for each model, in order.

    Raises:
        ValueError: A setting, an annotation or a model does not fit.
        FileNotFoundError: A file is missing.
    """
    config = resolve(RegionsEvaluateConfig, None, config, **options)
    data = open_labelled(config.annotations, config.images)
    reports = []
    for model in config.model:
        clip = load_clip(model, config.pretrained, text_from=config.text_from, device=pick_device(config.device))
        refinement = refinement_of(model)
        report = score_regions(
            clip,
            data,
            image_size=config.image_size or dense_side(clip, refinement),
            crop_size=config.crop_size,
            modes=config.modes,
            readout=config.readout or refinement.readout or "value",
            templates=config.templates,
            limit=config.limit,
            title=model,
        )
        reports.append(report)
        if config.out is not None:
            report.write(config.out / f"regions_{len(reports)}_{Path(model).name}.json")
    if config.out is not None:
        from clipself.viz.bars import draw_comparison

        draw_comparison([report.to_json() for report in reports], path=config.out / "regions.png")
    return reports


@torch.no_grad()
def score_regions(
    clip: DenseCLIP,
    data: LabelledImages,
    *,
    image_size: int | None = None,
    crop_size: int | None = None,
    modes: Sequence[str] = MODES,
    readout: str = "value",
    templates: str = "detection",
    limit: int | None = None,
    title: str | None = None,
    workers: int = 1,
    progress: bool = True,
    share: Share | None = None,
) -> RegionReport:
    """Evaluates a loaded model; the dense map of an image is computed once for all modes.

    Args:
        clip: The model; its own text tower embeds the names.
        data: Labelled images.
        image_size: Side of the square input of the dense map, in pixels; what suits the model if not given.
        crop_size: Side of the crops; None is the model's own.
        modes: Some of boxes, thing_masks, stuff_masks, crops.
        readout: How the last block becomes a dense map.
        templates: Sentences around the names.
        limit: First images only.
        title: Name in the report.
        workers: Processes that decode images.
        progress: Whether to show a bar.
        share: Cuts the images among the processes of a run.

    Raises:
        ValueError: The size is no multiple of the patch, the readout is unknown, or the model has no text tower.
    """
    image_size = image_size or dense_side(clip)
    require_whole(image_size, clip.patch_size, what="image_size")
    find_readout(readout)
    crop_side = crop_size or clip.image_size[0]
    samples = RegionSamples(
        data,
        preprocess=Preprocess(mean=clip.image_mean, std=clip.image_std),
        image_size=image_size,
        patch_size=clip.patch_size,
        crop_size=crop_side if "crops" in modes else None,
        limit=limit,
    )
    text_KD = embed_names(clip, data.class_names, templates=templates).rows_SD
    scored = (*modes, *(["stuff_crops"] if {"crops", "stuff_masks"} <= set(modes) else []))
    meters = {mode: MeanClassAccuracy(len(text_KD)) for mode in scored}

    def look_at(indices: Sequence[int]) -> Iterator[dict[str, MeanClassAccuracy]]:
        how: Any = {"sampler": indices, "num_workers": workers, "worker_init_fn": leave_stopping_to_the_run}
        loader: Any = DataLoader(samples, batch_size=None, **how)  # type: ignore[arg-type]
        with closing(plain_errors(loader)) as read:
            for sample in read:
                counted = {mode: MeanClassAccuracy(len(text_KD)) for mode in scored}
                _score_image(clip, sample, text_KD, counted, readout=readout)
                yield counted

    each = (share or Share()).of(len(samples), look_at)
    for counted in tqdm(each, total=len(samples), desc="regions", unit="image", disable=not progress, leave=False):
        for mode, meter in meters.items():
            meter.merge(counted[mode])
    settings = {
        "image_size": image_size,
        "crop_size": crop_side,
        "readout": readout,
        "templates": templates,
        "classes": len(text_KD),
        "image_tower": clip.identity.image,
        "text_tower": clip.identity.text,
    }
    return RegionReport(
        model=title or clip.name,
        weights_hash=clip.weights_hash(),
        settings=settings,
        images=len(samples),
        listed=len(data),
        reading=data.report,
        scores={mode: _summarize(meter, data.class_names) for mode, meter in meters.items() if meter.counts.any()},
    )


def _score_image(
    clip: DenseCLIP, sample: RegionSample, text_KD: Tensor, meters: dict[str, MeanClassAccuracy], *, readout: str
) -> None:
    if not len(sample.labels_R):
        return
    thing = sample.is_thing_R
    if not meters.keys().isdisjoint(("boxes", "thing_masks", "stuff_masks")):
        dense = clip.dense_map(sample.image_3HW[None].to(clip.device), readout=readout)
        if "boxes" in meters:
            by_box = F.normalize(pool_boxes(dense, [sample.boxes_norm.to(clip.device)]), dim=-1)
            meters["boxes"].update((by_box @ text_KD.T)[thing.to(clip.device)], sample.labels_R[thing])
        if sample.masks_RYX is not None:
            grid = sample.masks_RYX.shape[-2:]
            on_grid = resize_map(dense[0], (grid[0], grid[1]))[None]  # a guided readout has its guide's grid
            by_mask = pool_masks(on_grid, [sample.masks_RYX.to(clip.device)]) @ text_KD.T
            for mode, chosen in (("thing_masks", thing), ("stuff_masks", ~thing)):
                if mode in meters:
                    meters[mode].update(by_mask[chosen.to(clip.device)], sample.labels_R[chosen])
    if sample.crops_R3hw is not None:
        pieces = torch.split(sample.crops_R3hw.to(clip.device), CROPS_AT_ONCE)
        by_crop = torch.cat([clip.encode_image(piece) for piece in pieces]) @ text_KD.T
        for mode, chosen in (("crops", thing), ("stuff_crops", ~thing)):
            if mode not in meters:
                continue
            meters[mode].update(by_crop[chosen.to(clip.device)], sample.labels_R[chosen])


def _summarize(meter: MeanClassAccuracy, names: Sequence[str]) -> ModeScore:
    top1, top5 = meter.compute()[1], meter.compute()[5]
    occurring = [place for place, count in enumerate(meter.counts.tolist()) if count]
    return ModeScore(
        top1=top1.mean,
        top5=top5.mean,
        regions=int(meter.counts.sum()),
        classes=len(occurring),
        per_class={
            names[place]: {
                "top1": float(top1.per_class_K[place]),
                "top5": float(top5.per_class_K[place]),
                "regions": float(meter.counts[place]),
            }
            for place in occurring
        },
    )
