"""Trains a mask generator: FC-CLIP's decoders on a frozen CLIP."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.devices import pick_device
from clipself.backbones.loading import load_clip
from clipself.backbones.text import embed_names
from clipself.data.mask_batches import MaskBatch, MaskDataset, make_mask_loader
from clipself.data.panoptic import PanopticFile
from clipself.data.preprocess import Preprocess
from clipself.data.workers import plain_errors
from clipself.engine.begin import begin_run, loop_config
from clipself.engine.distributed import World, join_world
from clipself.engine.log import RunLog
from clipself.engine.old_loop import Loop
from clipself.engine.optim import decay_groups
from clipself.engine.precision import make_precision
from clipself.engine.run_folder import loss_at_ends, open_run_folder
from clipself.engine.settings import plain_values
from clipself.files import write_json
from clipself.losses.mask_classification import MaskClassificationLoss, MaskPredictions, TermWeights
from clipself.ops.patches import require_whole
from clipself.panoptic.config import PanopticTrainConfig
from clipself.panoptic.generators.own import (
    STEP,
    MaskModel,
    OwnMasksSettings,
    build_mask_model,
    save_own_masks,
    taps_of,
)
from clipself.renamed import old_names
from clipself.structures import TextRows
from clipself.text.vocabulary import load_vocabulary

__getattr__ = old_names(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticTrainResult:
    """What a run left behind.

    Attributes:
        out: Its folder, which is the mask model's too.
        steps: Optimizer steps made in all.
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
            f"{self.steps} steps, loss {self.first_loss:.3f} -> {self.last_loss:.3f}\nmask model  {self.out}\n"
            f"next: clipself panoptic evaluate --masks {self.out} --scores clip generator both "
            "--annotations FILE --images FOLDER"
        )


class MaskClassification:
    """The method: the CLIP is frozen, its taps feed the decoders, every layer's masks are matched and scored.

    Args:
        model: Pyramid and heads.
        clip: The frozen CLIP.
        text: Names of the training classes.
        taps: Blocks that are read.
        loss: Matching and terms.
    """

    def __init__(
        self, model: MaskModel, clip: DenseCLIP, text: TextRows, *, taps: Sequence[int], loss: MaskClassificationLoss
    ) -> None:
        self.model, self.clip, self.text, self.taps, self.loss = model, clip, text, taps, loss

    def count(self, batch: MaskBatch) -> int:
        """Images: a micro-batch counts by their number."""
        return len(batch.names)

    def images(self, batch: MaskBatch) -> int:
        """Images of the batch."""
        return len(batch.names)

    def names(self, batch: MaskBatch) -> Sequence[str]:
        """Files of the batch."""
        return batch.names

    def loss_sum(self, model: nn.Module, batch: MaskBatch) -> Tensor:
        """The loss of the micro-batch times its images; the loop divides by those of all processes."""
        batch = batch.to(self.clip.device)
        with torch.no_grad():
            taps = self.clip.taps(batch.images_B3HW, self.taps, readout="qk")
        predictions: list[MaskPredictions] = model(batch.images_B3HW, taps, self.text, all_layers=True)
        with torch.autocast(batch.images_B3HW.device.type, enabled=False):
            return self.loss(predictions, batch.targets) * len(batch.names)


def train_panoptic(config: PanopticTrainConfig | None = None, /, **options: Any) -> PanopticTrainResult:
    """Trains a mask model on panoptic labels.

    Args:
        config: All settings; or give them as keywords.
        options: Fields of `PanopticTrainConfig`.

    Returns:
        Where the model is and how the loss went.

    Raises:
        ValueError: A setting, an annotation or the CLIP does not fit.
        FileNotFoundError: A file or folder is missing.
        FileExistsError: The folder already holds a run, and neither resume nor overwrite was asked for.
        FloatingPointError: The loss became NaN or infinite.
    """
    config = config if config is not None else PanopticTrainConfig(**options)
    with join_world(pick_device(config.device)) as world:
        return _train(config, world)


def _train(config: PanopticTrainConfig, world: World) -> PanopticTrainResult:
    state_path = open_run_folder(config.out, resume=config.resume, overwrite=config.overwrite, world=world)
    clip = load_clip(config.model, config.pretrained, device=world.device).requires_grad_(False)
    _check_size(config, clip)
    data = open_training(config)
    names = data.class_names
    shape = shape_of(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build_mask_model(shape, clip).to(world.device)
    text = embed_names(clip, names, templates=config.templates, wording="short")
    dataset = MaskDataset(
        data,
        preprocess=Preprocess(mean=clip.image_mean, std=clip.image_std),
        side=config.image_size,
        scales=config.jitter,
        flip=config.flip,
        seed=config.seed,
    )
    run_log = RunLog(config.out, active=world.is_main, tensorboard=config.tensorboard)
    try:
        method = MaskClassification(model, clip, text, taps=taps_of(shape, clip), loss=make_loss(config))
        loop = _make_loop(config, world, method, len(dataset), run_log, state_path)
        torch.manual_seed(config.seed + world.rank)  # points of the loss; a resumed run restores the state
        summary = describe(config, model, dataset, loop.config.total_steps)
        start, sampler = begin_run(loop, config, images=len(dataset), summary=summary)
        model.train()
        loader: Any = make_mask_loader(dataset, sampler, workers=config.workers)
        loop.run(plain_errors(loader), start_step=start)
        result = _finish(config, world, method, shape, data.occurring(), loop.config.total_steps)
    finally:
        run_log.close()
    world.wait()
    return result


def open_training(config: PanopticTrainConfig) -> PanopticFile:
    """The labelled pictures, without those that hold a class to be kept unseen."""
    without = () if config.without is None else load_vocabulary(config.without).names
    return PanopticFile(config.annotations, config.images, segments=config.segments, without=without)


def shape_of(config: PanopticTrainConfig) -> OwnMasksSettings:
    """The decoders' shape among the settings."""
    return OwnMasksSettings(
        taps=config.taps, image_size=config.image_size, channels=config.channels, pixel_layers=config.pixel_layers,
        pixel_hidden=config.pixel_hidden, layers=config.layers, hidden=config.hidden, queries=config.queries,
        heads=config.heads, templates=config.templates,
    )  # fmt: skip


def make_loss(config: PanopticTrainConfig) -> MaskClassificationLoss:
    """The loss of the settings."""
    weights = TermWeights(classes=config.class_weight, mask=config.mask_weight, dice=config.dice_weight)
    return MaskClassificationLoss(weights=weights, no_object=config.no_object, num_points=config.num_points)


def describe(config: PanopticTrainConfig, model: MaskModel, dataset: MaskDataset, steps: int) -> str:
    """One line that says what will train on what."""
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    return (
        f"{millions:.1f} M parameters learn on {len(dataset)} pictures at {config.image_size} px, {steps} steps; "
        f"{config.model} stays frozen"
    )


def _make_loop(
    config: PanopticTrainConfig,
    world: World,
    method: MaskClassification,
    length: int,
    run_log: RunLog,
    state_path: Path,
) -> Loop[MaskBatch]:
    per_epoch = max(1, length // (config.batch_size * world.size * config.accumulate))
    total = config.max_steps or max(1, round(config.epochs * per_epoch))
    learning = list(method.model.parameters())
    groups: Any = decay_groups(learning, weight_decay=config.weight_decay)
    return Loop(
        method=method,
        model=method.model,
        learning=learning,
        optimizer=torch.optim.AdamW(groups, lr=config.lr),
        config=loop_config(config, total_steps=total, warmup_steps=min(config.warmup_steps, total // 10)),
        precision=make_precision(config.precision, world.device),
        world=world,
        log=run_log,
        state_path=state_path,
        fingerprint=config.fingerprint(processes=world.size, images=length, clip=method.clip.weights_hash("image")),
        numbers=dict,
    )


def _check_size(config: PanopticTrainConfig, clip: DenseCLIP) -> None:
    step = STEP * clip.patch_size
    require_whole(config.image_size, step, what="image_size", unit=f"two patches ({step} pixels)")


def _finish(
    config: PanopticTrainConfig,
    world: World,
    method: MaskClassification,
    shape: OwnMasksSettings,
    trained_names: Sequence[str],
    steps: int,
) -> PanopticTrainResult:
    first_loss, last_loss = loss_at_ends(config.out)
    result = PanopticTrainResult(out=config.out, steps=steps, first_loss=first_loss, last_loss=last_loss)
    if world.is_main:
        save_own_masks(
            config.out,
            method.model.eval(),
            shape,
            clip=method.clip,
            clip_source={"model": config.model, "pretrained": config.pretrained},
            trained_names=trained_names,
            card={"training": config.to_json(), "steps": steps, "loss": [result.first_loss, result.last_loss]},
        )
        write_json(config.out / "result.json", plain_values(result))
    return result
