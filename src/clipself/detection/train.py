"""Trains a detector: frozen backbone, base classes only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.devices import pick_device
from clipself.backbones.loading import load_clip
from clipself.data.detection import CocoDetection, DetectionDataset, make_detection_loader
from clipself.data.workers import plain_errors
from clipself.detection.checkpoint import FROZEN, save_detector
from clipself.detection.config import DetectionTrainConfig
from clipself.detection.detectors.table import build_detector, make_settings
from clipself.detection.detectors.two_stage.model import TwoStage
from clipself.detection.detectors.two_stage.pixels import pixels_of
from clipself.detection.vocabulary import make_vocabulary
from clipself.engine.begin import begin_run, loop_config
from clipself.engine.distributed import World, join_world
from clipself.engine.log import RunLog
from clipself.engine.old_loop import Loop
from clipself.engine.optim import SCHEDULES, warmup_constant
from clipself.engine.precision import make_precision
from clipself.engine.run_folder import loss_at_ends, open_run_folder
from clipself.engine.settings import plain_values
from clipself.files import write_json
from clipself.structures import DetectionBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionTrainResult:
    """What a run left behind.

    Attributes:
        out: Its folder, which `Detector.from_checkpoint` reads.
        steps: Optimizer steps made.
        first_loss: Mean loss of the first tenth of the steps.
        last_loss: Mean loss of the last tenth.
    """

    out: Path
    steps: int
    first_loss: float
    last_loss: float

    def to_table(self) -> str:
        """A few lines for people."""
        return (
            f"{self.steps} steps, loss {self.first_loss:.4f} -> {self.last_loss:.4f}\n"
            f"detector  {self.out}  (clipself detect evaluate, detect predict, proposals)"
        )


class DetectionMethod:
    """What the loop asks about detection losses; images count alike.

    Args:
        detector: The detector, bare.
    """

    def __init__(self, detector: TwoStage) -> None:
        self.detector = detector
        self.last: dict[str, float] = {}

    def count(self, batch: DetectionBatch) -> int:
        """Images of the batch: every image's losses are means over its own samples."""
        return len(batch.names)

    def images(self, batch: DetectionBatch) -> int:
        """Images of the batch."""
        return len(batch.names)

    def names(self, batch: DetectionBatch) -> Sequence[str]:
        """Files of the batch."""
        return batch.names

    def loss_sum(self, model: nn.Module, batch: DetectionBatch) -> Tensor:
        """The sum of all losses over the images; `model` is the detector, possibly wrapped for many processes."""
        losses: dict[str, Tensor] = model(batch.to(self.detector.device))
        self.last = {name: float(loss.detach()) / len(batch.names) for name, loss in losses.items()}
        return torch.stack(list(losses.values())).sum()

    def numbers(self) -> dict[str, float]:
        """Each loss of the last micro-batch, for the log."""
        return {name: round(value, 5) for name, value in self.last.items()}


def train_detector(config: DetectionTrainConfig | None = None, /, **options: Any) -> DetectionTrainResult:
    """Trains a detector on the base classes of a COCO-format file.

    Args:
        config: All settings; or give them as keywords.
        options: Fields of `DetectionTrainConfig`; paths may be strings, `detector` may be a dict.

    Returns:
        Where the detector is and how the loss went.

    Raises:
        ValueError: A setting, an annotation or the model does not fit.
        FileNotFoundError: A file is missing.
        FileExistsError: The folder holds a run already.
        FloatingPointError: The loss became NaN or infinite.
    """
    config = config if config is not None else config_of(options)
    with join_world(pick_device(config.device)) as world:
        return _train(config, world)


def config_of(options: Mapping[str, Any]) -> DetectionTrainConfig:
    """Keywords as settings; strings of path settings become paths."""
    paths = {"annotations", "images", "out", "base", "novel", "feature_cache", "evaluate_annotations",
             "evaluate_images"}  # fmt: skip
    given: dict[str, Any] = {
        name: Path(value) if name in paths and value is not None else value for name, value in options.items()
    }
    if isinstance(given.get("detector"), Mapping):
        given["detector"] = make_settings(**given["detector"])
    return DetectionTrainConfig(**given)


def _train(config: DetectionTrainConfig, world: World) -> DetectionTrainResult:
    state_path = open_run_folder(config.out, resume=config.resume, overwrite=config.overwrite, world=world)
    clip = load_clip(config.model, config.pretrained, text_from=config.text_from, device=world.device)
    settings: Any = config.detector
    source = CocoDetection(
        config.annotations, config.images, split=config.split, base=config.base, novel=config.novel,
        masks=settings.mask_convs > 0, keep_empty=config.keep_empty,
    )  # fmt: skip
    vocabulary = make_vocabulary(
        clip, source.classes.names, base=source.classes.base, templates=settings.templates,
    )  # fmt: skip
    detector = build_detector(clip, settings, vocabulary, seed=config.seed)
    if settings.federated_classes:
        detector.class_weights_K = F.pad(source.images_of_classes().float().sqrt(), (0, 1))
    dataset = DetectionDataset(
        source, preprocess=pixels_of(settings, clip), side=settings.image_size, scales=config.scales,
        flip=config.flip, seed=config.seed, views=config.views,
    )  # fmt: skip
    _open_cache(config, detector, dataset, world)
    run_log = RunLog(config.out, active=world.is_main, tensorboard=config.tensorboard)
    try:
        loop = _make_loop(config, world, detector, dataset, run_log, state_path)
        summary = describe(config, detector, dataset, loop.config.total_steps)
        start, sampler = begin_run(loop, config, images=len(dataset), summary=summary)
        pin = world.device.type == "cuda"
        loader: Any = make_detection_loader(dataset, sampler, workers=config.workers, pin_memory=pin)
        detector.train()
        loop.run(plain_errors(loader), start_step=start)
        result = _finish(config, world, detector, loop.config.total_steps)
    finally:
        run_log.close()
    world.wait()
    return result


def describe(config: DetectionTrainConfig, detector: TwoStage, dataset: DetectionDataset, steps: int) -> str:
    """One line that says what will train on what."""
    millions = sum(parameter.numel() for parameter in detector.parameters() if parameter.requires_grad) / 1e6
    classes = dataset.source.classes
    return (
        f"{config.detector.method} on frozen {config.model}: {millions:.1f} M parameters learn on {len(dataset)} "
        f"images at {dataset.side} px, {len(classes.base)} base and {len(classes.novel)} novel classes, "
        f"{steps} steps"
    )


def running_statistics(detector: TwoStage) -> list[Tensor]:
    """What the heads carry along without learning it."""
    return [buffer for name, buffer in detector.named_buffers() if not name.startswith(FROZEN)]


def _make_loop(
    config: DetectionTrainConfig,
    world: World,
    detector: TwoStage,
    dataset: DetectionDataset,
    run_log: RunLog,
    state_path: Path,
) -> Loop[DetectionBatch]:
    per_epoch = max(1, len(dataset) // (config.batch_size * world.size * config.accumulate))
    total = config.max_steps or max(1, round(config.epochs * per_epoch))
    learning = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    groups: Any = [{"params": learning, "weight_decay": config.weight_decay}]
    drops = [round(epoch * per_epoch) for epoch in config.drop_epochs]
    method = DetectionMethod(detector)
    return Loop(
        method=method,
        model=detector,
        learning=learning,
        optimizer=torch.optim.AdamW(groups, lr=config.lr, eps=config.eps),
        config=loop_config(
            config,
            total_steps=total,
            warmup_steps=min(config.warmup_steps, total // 10),
            evaluate_every=config.evaluate_every,
        ),
        precision=make_precision(config.precision, world.device),
        world=world,
        log=run_log,
        state_path=state_path,
        fingerprint=config.fingerprint(
            processes=world.size, images=len(dataset), backbone=detector.backbone.clip.weights_hash("image")
        ),
        evaluate=_make_evaluation(config, detector) if config.evaluate_every else None,
        compile=config.compile,
        schedule=partial(warmup_constant, drops=drops) if config.schedule == "constant" else SCHEDULES[config.schedule],
        kept=running_statistics(detector),
        numbers=method.numbers,
    )


def _make_evaluation(config: DetectionTrainConfig, detector: TwoStage) -> Any:
    from clipself.detection.detector import Detector
    from clipself.detection.evaluate import score_detector

    assert config.evaluate_annotations is not None
    assert config.evaluate_images is not None
    data = CocoDetection(
        config.evaluate_annotations, config.evaluate_images, split=config.split, base=config.base, novel=config.novel,
        train=False,
    )  # fmt: skip

    def evaluate(step: int) -> Mapping[str, Any]:
        del step
        training = detector.vocabulary
        try:
            report = score_detector(Detector(detector), data, limit=config.evaluate_limit, progress=False)
        finally:
            detector.use(training)
            detector.train()
        return dict(report.summary)

    return evaluate


def _open_cache(config: DetectionTrainConfig, detector: TwoStage, dataset: DetectionDataset, world: World) -> None:
    if config.feature_cache is None:
        return
    if world.size > 1:
        raise ValueError("feature_cache is written by one process; run without torchrun, or without the cache")
    if detector.backbone.clip.trunk.is_pyramid:
        raise ValueError("feature_cache holds taps of one size, which these stages are not; run without the cache")
    from clipself.detection.detectors.two_stage.feature_cache import FeatureCache

    views = config.views or 1
    parts = [detector.backbone.clip.weights_hash("image"), str(dataset.source.source), str(dataset.side)]
    settings = detector.settings
    parts += [str(dataset.scales), str(dataset.flip), str(dataset.seed), str(views), settings.pixels]
    parts += [str(settings.taps), settings.readout]
    detector.cache = FeatureCache(
        config.feature_cache, identity=" ".join(parts), rows=len(dataset) * views, backbone=detector.backbone
    )


def _finish(config: DetectionTrainConfig, world: World, detector: TwoStage, steps: int) -> DetectionTrainResult:
    first_loss, last_loss = loss_at_ends(config.out)
    result = DetectionTrainResult(
        out=config.out,
        steps=steps,
        first_loss=first_loss,
        last_loss=last_loss,
    )
    if world.is_main:
        card = {"training": config.to_json(), "steps": steps, "loss": [result.first_loss, result.last_loss]}
        save_detector(
            detector.eval(), config.out, model=config.model, pretrained=config.pretrained, text_from=config.text_from,
            card=card,
        )  # fmt: skip
        write_json(config.out / "result.json", plain_values(result))
    return result
