"""The main job: from a CLIP and a folder of images to refined weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.devices import pick_device
from clipself.backbones.export import blend_clips, save_clip
from clipself.backbones.loading import load_clip
from clipself.data.distill import DistillDataset, make_loader
from clipself.data.preprocess import Preprocess
from clipself.data.sources import CocoImages, ImageFolder, ImageSource
from clipself.data.workers import plain_errors
from clipself.distillation.clipself import ClipSelf
from clipself.distillation.config import DistillConfig
from clipself.distillation.teacher_cache import TeacherCache
from clipself.engine.begin import begin_run, loop_config
from clipself.engine.distributed import World, join_world
from clipself.engine.log import RunLog
from clipself.engine.loop import Loop
from clipself.engine.optim import decay_groups
from clipself.engine.precision import make_precision
from clipself.engine.run_folder import loss_at_ends, open_run_folder
from clipself.engine.settings import plain_values
from clipself.files import write_json
from clipself.structures import DistillBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillResult:
    """What a run left behind.

    Attributes:
        out: Its folder.
        student: Export folder of the student alone.
        blended: Export folder of the blend.
        steps: Optimizer steps made in all.
        first_loss: Mean loss over the first tenth of the steps.
        last_loss: Mean loss over the last tenth.
    """

    out: Path
    student: Path
    blended: Path
    steps: int
    first_loss: float
    last_loss: float

    def to_table(self) -> str:
        """A summary with what to run next."""
        return (
            f"{self.steps} steps, loss {self.first_loss:.4f} -> {self.last_loss:.4f} "
            f"(mean cosine {1 - self.first_loss:.4f} -> {1 - self.last_loss:.4f})\n"
            f"student  {self.student}\nblended  {self.blended}\n"
            f"next: clipself evaluate regions --models ORIGINAL {self.blended} --annotations FILE --images FOLDER\n"
            f"      clipself show kmeans PICTURE.jpg --refined {self.blended}"
        )


def distill(config: DistillConfig | None = None, /, **options: Any) -> DistillResult:
    """Refines a CLIP's dense map on images without labels.

    Args:
        config: All settings; or give them as keywords: `distill(out="runs/mine", data="photos/",
            model="ViT-B-16", pretrained="openai")`.
        options: Fields of `DistillConfig`; paths may be strings.

    Returns:
        Where the weights are and how the loss went.

    Raises:
        ValueError: A setting, an image list or a checkpoint does not fit.
        FileNotFoundError: A file or folder is missing.
        FileExistsError: The folder already holds a run, and neither resume nor overwrite was asked for.
        FloatingPointError: The loss became NaN or infinite.
    """
    config = config if config is not None else DistillConfig(**as_paths(options))
    with join_world(pick_device(config.device)) as world:
        return _distill(config, world)


def as_paths(options: Mapping[str, Any]) -> dict[str, Any]:
    """Strings of path settings as paths."""
    names = {"data", "out", "student", "annotations", "proposals", "teacher_cache", "evaluate_annotations",
             "evaluate_images"}  # fmt: skip
    return {name: Path(value) if name in names and value is not None else value for name, value in options.items()}


def _distill(config: DistillConfig, world: World) -> DistillResult:
    state_path = open_run_folder(config.out, resume=config.resume, overwrite=config.overwrite, world=world)
    original = load_clip(config.model, config.pretrained, device=world.device)
    _check_size(config, original)
    dataset = DistillDataset(
        open_source(config),
        preprocess=Preprocess(mean=original.image_mean, std=original.image_std),
        student_size=config.image_size,
        crop_size=config.crop_size or original.image_size[0],
        regions=config.regions,
        max_split=config.max_split,
        max_regions=config.max_regions,
        enlarge=config.enlarge,
        flip=config.flip,
        seed=config.seed,
        skip_unreadable=config.skip_unreadable,
    )
    method = ClipSelf(
        original,
        student=None if config.student is None else load_clip(str(config.student), device=world.device),
        trainable_blocks=config.trainable_blocks,
        readout=config.readout,
        cache=_open_cache(config, original, dataset, world),
    )
    run_log = RunLog(config.out, active=world.is_main, tensorboard=config.tensorboard)
    try:
        loop = _make_loop(config, world, method, dataset, run_log, state_path)
        summary = describe(config, method, dataset, loop.config.total_steps)
        start, sampler = begin_run(loop, config, images=len(dataset), summary=summary)
        loader: Any = make_loader(dataset, sampler, workers=config.workers, pin_memory=world.device.type == "cuda")
        loop.run(plain_errors(loader), start_step=start)
        if method.cache is not None:
            method.cache.flush()
        result = _finish(config, world, method, loop.config.total_steps)
    finally:
        run_log.close()
    world.wait()
    return result


def open_source(config: DistillConfig) -> ImageSource:
    """The images that the settings name."""
    if config.annotations is None:
        return ImageFolder(config.data)
    if config.regions == "proposals":
        return CocoImages(config.annotations, config.data, proposals=config.proposals)
    return CocoImages(config.annotations, config.data, needs_boxes=False)


def describe(config: DistillConfig, method: ClipSelf, dataset: DistillDataset, steps: int) -> str:
    """One line that says what will train on what."""
    millions = sum(parameter.numel() for parameter in method.learning) / 1e6
    return (
        f"{config.model}: {millions:.1f} M parameters learn on {len(dataset)} images at {config.image_size} px, "
        f"{config.regions}, {steps} steps"
    )


def _make_loop(
    config: DistillConfig, world: World, method: ClipSelf, dataset: DistillDataset, run_log: RunLog, state_path: Path
) -> Loop[DistillBatch]:
    per_epoch = max(1, len(dataset) // (config.batch_size * world.size * config.accumulate))
    total = config.max_steps or max(1, round(config.epochs * per_epoch))
    warmup = config.warmup_steps if config.exact_warmup else min(config.warmup_steps, total // 10)
    method.student.set_grad_checkpointing(config.grad_checkpointing)
    groups: Any = decay_groups(method.learning, weight_decay=config.weight_decay)
    return Loop(
        method=method,
        model=method.student,
        learning=method.learning,
        optimizer=torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps),
        config=loop_config(config, total_steps=total, warmup_steps=warmup, evaluate_every=config.evaluate_every),
        precision=make_precision(config.precision, world.device),
        world=world,
        log=run_log,
        state_path=state_path,
        fingerprint=config.fingerprint(
            processes=world.size,
            images=len(dataset),
            teacher=method.teacher.weights_hash(),
            student=None if config.student is None else method.student.weights_hash(),
        ),
        evaluate=_make_evaluation(config, method) if config.evaluate_every else None,
        compile=config.compile,
    )


def _make_evaluation(config: DistillConfig, method: ClipSelf) -> Any:
    from clipself.data.labelled import open_labelled
    from clipself.regions.evaluate import score_regions

    assert config.evaluate_annotations is not None
    assert config.evaluate_images is not None
    data = open_labelled(config.evaluate_annotations, config.evaluate_images)

    def evaluate(step: int) -> Mapping[str, Any]:
        blended = blend_clips(method.student, method.teacher, config.alpha).eval()
        report = score_regions(
            blended, data, image_size=config.image_size, modes=("boxes", "thing_masks", "stuff_masks")
        )
        return {f"{mode}_top1": score.top1 for mode, score in report.scores.items()}

    return evaluate


def _open_cache(
    config: DistillConfig, original: DenseCLIP, dataset: DistillDataset, world: World
) -> TeacherCache | None:
    if config.teacher_cache is None:
        return None
    if config.flip:
        raise ValueError("teacher_cache cannot hold mirrored images apart; leave flip at 0 or run without the cache")
    parts = [original.weights_hash("image"), str(dataset.crop_size), str(dataset.enlarge), str(dataset.student_size)]
    parts += [config.precision, str(original.image_mean), str(original.image_std)]
    return TeacherCache(config.teacher_cache, identity=" ".join(parts), width=original.embed_dim, rank=world.rank)


def _check_size(config: DistillConfig, clip: DenseCLIP) -> None:
    for name, side in (("image_size", config.image_size), ("crop_size", config.crop_size)):
        if side is not None and side % clip.patch_size:
            near = max(1, round(side / clip.patch_size)) * clip.patch_size
            raise ValueError(f"{name}={side} is no multiple of the patch of {clip.patch_size} pixels; try {near}")


def _finish(config: DistillConfig, world: World, method: ClipSelf, steps: int) -> DistillResult:
    first_loss, last_loss = loss_at_ends(config.out)
    result = DistillResult(
        out=config.out,
        student=config.out / "student",
        blended=config.out / "blended",
        steps=steps,
        first_loss=first_loss,
        last_loss=last_loss,
    )
    if world.is_main:
        card = {
            "refined_by": "CLIPSelf (arXiv:2310.01403)",
            "refined_from": method.teacher.identity.image,
            "original_weights_hash": method.teacher.weights_hash(),
            "settings": config.to_json(),
            "steps": steps,
            "loss": [result.first_loss, result.last_loss],
        }
        student = method.student.eval()
        save_clip(student, result.student, card={**card, "alpha": 1.0})
        save_clip(
            blend_clips(student, method.teacher, config.alpha), result.blended, card={**card, "alpha": config.alpha}
        )
        write_json(config.out / "result.json", plain_values(result))
    return result
