"""Training of CAT-Seg and SAN on the engine's loop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from clipself.backbones.devices import pick_device
from clipself.backbones.loading import load_clip
from clipself.data.semantic import SemanticImages, SomeClasses, names_to_segment, open_semantic
from clipself.data.semantic_training import Augmentation, SemanticCrops, collate_semantic
from clipself.data.workers import plain_errors
from clipself.engine.begin import begin_run, loop_config
from clipself.engine.distributed import World, join_world
from clipself.engine.log import RunLog
from clipself.engine.old_loop import Loop
from clipself.engine.optim import SCHEDULES
from clipself.engine.precision import make_precision
from clipself.engine.run_folder import loss_at_ends, open_run_folder
from clipself.engine.settings import plain_values
from clipself.files import write_json
from clipself.segmentation.checkpoint import save_segmenter
from clipself.segmentation.config import SegmentationTrainConfig
from clipself.segmentation.evaluate import score_segmenter, split_groups
from clipself.segmentation.segmenters import Model, build_model, make_method, parameter_groups, segmenter_of
from clipself.structures import SemanticBatch
from clipself.text.vocabulary import load_vocabulary


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentTrainResult:
    """What a run left behind.

    Attributes:
        out: Its folder, which `segment evaluate` and `segment predict` take.
        steps: Optimizer steps.
        first_loss: Mean loss over the first tenth of the steps.
        last_loss: Mean loss over the last tenth.
    """

    out: Path
    steps: int
    first_loss: float
    last_loss: float

    def to_table(self) -> str:
        """A summary with what to run next."""
        return (
            f"{self.steps} steps, loss {self.first_loss:.4f} -> {self.last_loss:.4f}\nmodel  {self.out}\n"
            f"next: clipself segment evaluate --models {self.out} --data FOLDER\n"
            f"      clipself segment predict --model {self.out} --images PICTURE.jpg"
        )


def train_segmenter(config: SegmentationTrainConfig | None = None, /, **options: Any) -> SegmentTrainResult:
    """Trains a segmenter.

    Args:
        config: All settings; or give them as keywords.
        options: Fields of `SegmentationTrainConfig`.

    Raises:
        ValueError: A setting, the data or a checkpoint does not fit.
        FileNotFoundError: A file or folder is missing.
        FileExistsError: The folder already holds a run, and neither resume nor overwrite was asked for.
        FloatingPointError: The loss became NaN or infinite.
    """
    config = config if config is not None else SegmentationTrainConfig(**options)
    with join_world(pick_device(config.device)) as world:
        return _train(config, world)


def _train(config: SegmentationTrainConfig, world: World) -> SegmentTrainResult:
    state_path = open_run_folder(config.out, resume=config.resume, overwrite=config.overwrite, world=world)
    data = open_training(config)
    clip = load_clip(config.model, config.pretrained)
    clip_hash = clip.weights_hash()
    model = build_model(config, clip).to(world.device)
    groups = parameter_groups(model, config)
    learning = [parameter for group in groups for parameter in group["params"]]
    method = make_method(config, model, data)
    crops = SemanticCrops(
        data,
        Augmentation(crop=config.crop, shortest=config.shortest, flip=config.flip, colour=config.colour),
        seed=config.seed,
    )
    model.train()
    run_log = RunLog(config.out, active=world.is_main, tensorboard=config.tensorboard)
    try:
        loop: Loop[SemanticBatch] = Loop(
            method=method,
            model=model,
            learning=learning,
            optimizer=torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay, eps=config.eps),
            config=loop_config(
                config,
                total_steps=config.max_steps,
                warmup_steps=config.warmup_steps,
                evaluate_every=config.evaluate_every,
            ),
            precision=make_precision(config.precision, world.device),
            world=world,
            log=run_log,
            state_path=state_path,
            fingerprint=config.fingerprint(processes=world.size, images=len(data), clip=clip_hash),
            evaluate=_make_evaluation(config, model, data.class_names) if config.evaluate_every else None,
            schedule=SCHEDULES[config.schedule],
            numbers=dict,
        )
        millions = sum(parameter.numel() for parameter in learning) / 1e6
        summary = (
            f"{config.method} on {config.model}: {millions:.2f} M parameters learn {len(data.class_names)} classes on "
            f"{len(data)} pictures, {config.max_steps} steps"
        )
        start, sampler = begin_run(loop, config, images=len(data), summary=summary)
        method.step = start * config.accumulate
        loop.run(plain_errors(_loader(crops, sampler, config, world)), start_step=start)
        result = _finish(config, world, model, data.class_names, clip_hash)
    finally:
        run_log.close()
    world.wait()
    return result


def open_training(config: SegmentationTrainConfig) -> SemanticImages:
    """The labelled set, with the classes that are not to be seen ignored."""
    data = open_semantic(config.data, images=config.images, split="train")
    return data if config.seen is None else SomeClasses(data, load_vocabulary(config.seen).names)


def _make_evaluation(config: SegmentationTrainConfig, model: Model, seen: Sequence[str]) -> Any:
    assert config.evaluate_data is not None
    data = open_semantic(config.evaluate_data, images=config.evaluate_images)
    groups = split_groups(data.class_names, seen)

    def evaluate(step: int) -> Mapping[str, Any]:
        del step
        try:
            segmenter = segmenter_of(model, names_to_segment(data), crop=config.crop)
            report = score_segmenter(segmenter, data, groups=groups, limit=config.evaluate_limit, progress=False)
        finally:
            model.train()
        return report.summary()

    return evaluate


def _loader(crops: SemanticCrops, sampler: Any, config: SegmentationTrainConfig, world: World) -> Any:
    return DataLoader(
        crops,
        batch_sampler=sampler,
        collate_fn=collate_semantic,
        num_workers=config.workers,
        pin_memory=world.device.type == "cuda",
        persistent_workers=config.workers > 0,
    )


def _finish(
    config: SegmentationTrainConfig, world: World, model: Model, names: Sequence[str], clip_hash: str
) -> SegmentTrainResult:
    first_loss, last_loss = loss_at_ends(config.out)
    result = SegmentTrainResult(
        out=config.out,
        steps=config.max_steps,
        first_loss=first_loss,
        last_loss=last_loss,
    )
    if world.is_main:
        card = {"names": list(names), "training": config.to_json(), "steps": config.max_steps}
        save_segmenter(model.eval(), config.out, config=config, clip_hash=clip_hash, card=card)
        write_json(config.out / "result.json", plain_values(result))
    return result
