"""The main job: from a CLIP and a folder of images to refined weights."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from clipself.backbones.activation import computation_hash
from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.export import blend_clips, save_clip
from clipself.backbones.loading import load_clip
from clipself.data.distill import DistillDataset
from clipself.data.preprocess import Preprocess
from clipself.data.sources import CocoImages, ImageFolder, ImageSource
from clipself.distillation.config import DistillConfig
from clipself.distillation.keep import KeepImages
from clipself.distillation.methods import METHODS, build_method
from clipself.distillation.recipes import RECIPES
from clipself.distillation.teacher_cache import TeacherCache
from clipself.engine.callbacks import Callback
from clipself.engine.distributed import World
from clipself.engine.loader import TrainingData
from clipself.engine.resolve import resolve
from clipself.engine.result import TrainResult, measure
from clipself.engine.run import train
from clipself.engine.share import Share
from clipself.engine.step import Step
from clipself.engine.task import Task
from clipself.ops.patches import require_whole
from clipself.structures import DistillBatch


def distill(
    config: DistillConfig | Mapping[str, Any] | str | Path | None = None,
    /,
    *,
    recipe: str | None = None,
    on_step: Callback | None = None,
    on_evaluate: Callback | None = None,
    **options: Any,
) -> TrainResult:
    """Refines a CLIP's dense map on images without labels.

    Args:
        config: All settings, or a file of them; or give them as keywords: `distill(out="runs/mine", data="photos/",
            model="ViT-B-16", pretrained="openai")`.
        recipe: Name of the settings that the keywords change, as on the command line; "modern" if not given.
        on_step: Called with the run's `Progress` after each step, in the main process.
        on_evaluate: Likewise after each evaluation inside the run.
        options: Fields of `DistillConfig`; paths may be strings.

    Returns:
        Where the weights are (`student` and `blended`) and how the loss went.

    Raises:
        ValueError: A setting, an image list or a checkpoint does not fit.
        FileNotFoundError: A file or folder is missing.
        FileExistsError: The folder already holds a run, and neither resume nor overwrite was asked for.
        FloatingPointError: Loss, gradients or weights became NaN or infinite.
    """
    settings = resolve(DistillConfig, RECIPES, config, recipe=recipe, **options)
    return train(DistillTask, settings, on_step=on_step, on_evaluate=on_evaluate)


class DistillTask(Task[DistillBatch]):
    """Self-distillation on the engine: see `METHODS` for the ways to learn."""

    writes = ("student", "blended")

    def __init__(self, config: DistillConfig, world: World) -> None:
        self.config: DistillConfig = config
        original = load_clip(config.model, config.pretrained, text_from=config.text_from, device=world.device)
        _check_size(config, original)
        self.dataset = DistillDataset(
            open_source(config),
            preprocess=Preprocess(mean=original.image_mean, std=original.image_std),
            student_size=config.image_size,
            crop_size=config.crop_size or original.image_size[0],
            regions=config.regions,
            max_split=config.max_split,
            max_regions=config.max_regions,
            enlarge=config.enlarge,
            flip=config.flip,
            views=config.views,
            seed=config.seed,
            skip_unreadable=config.skip_unreadable,
        )
        self.method = build_method(
            original,
            config.method,
            student=None if config.student is None else load_clip(str(config.student), device=world.device),
            trainable_blocks=config.trainable_blocks,
            readout=config.readout,
            cache=_open_cache(config, original, self.dataset, world),
            keep=_keep_images(config, original, self.dataset, world),
        )
        self.model = self.method.model
        self.method.student.set_grad_checkpointing(config.grad_checkpointing)

    def data(self) -> TrainingData:
        """Images with their regions and crops."""
        source = self.dataset.source
        if isinstance(source, ImageFolder):
            names = source.names
        else:
            names = [os.path.relpath(path, self.config.data) for path in source.paths]
        return TrainingData(dataset=self.dataset, collate=self.dataset.collate, names=names)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Those of the method."""
        return self.method.groups(weight_decay=self.config.weight_decay)

    def counts(self, batch: DistillBatch) -> dict[str, float]:
        """Regions, and images whose embedding is kept: the loss is made of means over them."""
        return self.method.counts(batch)

    def losses(self, model: nn.Module, batch: DistillBatch, step: Step) -> dict[str, Tensor]:
        """The distance of student and teacher regions, and what the method adds to it."""
        return self.method.losses(model, batch, step)

    def identity(self) -> dict[str, Any]:
        """The weights that teach and those that learn."""
        student = None if self.config.student is None else self.method.student.weights_hash()
        weights = {"teacher's weights": self.method.teacher.weights_hash(), "student's first weights": student}
        return {**weights, **self.method.identity()}

    def describe(self, images: int, steps: int) -> str:
        """One line that says what will train on what."""
        millions = sum(parameter.numel() for parameter in self.method.learning) / 1e6
        return (
            f"{self.config.model}: {millions:.1f} M parameters learn on {images} images at "
            f"{self.config.image_size} px by {self.config.method.method}, {self.config.regions}, {steps} steps"
        )

    def evaluate(self, share: Share) -> Mapping[str, Any]:
        """Region classification by the blend, read as the student is trained."""
        from clipself.data.labelled import open_labelled
        from clipself.regions.evaluate import score_regions

        config = self.config
        assert config.evaluate_annotations is not None
        assert config.evaluate_images is not None
        report = score_regions(
            blend_clips(self.method.student, self.method.teacher, config.alpha).eval(),
            open_labelled(config.evaluate_annotations, config.evaluate_images),
            image_size=config.image_size,
            modes=("boxes", "thing_masks", "stuff_masks"),
            readout=config.readout,
            limit=config.evaluate_limit,
            share=share,
        )
        return {f"{mode}_top1": score.top1 for mode, score in report.scores.items()}

    def flush(self) -> None:
        """The teacher's embeddings."""
        self.method.flush()

    def save(self, card: Mapping[str, Any]) -> dict[str, Path]:
        """The student alone, and its average with the original."""
        teacher, alpha, out = self.method.teacher, self.config.alpha, self.config.out
        more = {
            "refined_by": METHODS[self.config.method.method].source,
            "refined_from": teacher.identity.image,
            "original_weights_hash": teacher.weights_hash(),
            **card,
        }
        student = save_clip(self.method.student, out / "student", card={**more, "alpha": 1.0})
        blend = blend_clips(self.method.student, teacher, alpha)
        return {"student": student, "blended": save_clip(blend, out / "blended", card={**more, "alpha": alpha})}

    def advice(self, result: TrainResult) -> Sequence[str]:
        """How near the regions came, and what to run next."""
        blended = self.config.out / "blended"
        unread = self.dataset.unreadable
        told = (f"{unread} of {len(self.dataset)} images could not be read, others took their place",) if unread else ()
        regions = measure(self.config.out, result.steps, term="distance")
        if not math.isnan(regions.last_loss):
            told = (*told, f"mean cosine {1 - regions.first_loss:.4f} -> {1 - regions.last_loss:.4f}")
        return (
            *told,
            f"next: clipself evaluate regions --model ORIGINAL {blended} --annotations FILE --images FOLDER",
            f"      clipself show kmeans PICTURE.jpg --refined {blended}",
        )


def open_source(config: DistillConfig) -> ImageSource:
    """The images that the settings name."""
    if config.annotations is None:
        return ImageFolder(config.data)
    if config.regions == "proposals":
        return CocoImages(config.annotations, config.data, proposals=config.proposals)
    return CocoImages(config.annotations, config.data, needs_boxes=False)


def _keep_images(
    config: DistillConfig, original: DenseCLIP, dataset: DistillDataset, world: World
) -> KeepImages | None:
    if not config.keep_image:
        return None
    cache = _open_cache(config, original, dataset, world, of="whole images")
    return KeepImages(original, weight=config.keep_image, crops=config.keep_crops, cache=cache)


def _open_cache(
    config: DistillConfig, original: DenseCLIP, dataset: DistillDataset, world: World, *, of: str = ""
) -> TeacherCache | None:
    if config.teacher_cache is None:
        return None
    parts = [computation_hash(original, "image"), str(dataset.crop_size), str(dataset.enlarge)]
    parts += [str(dataset.student_size), config.precision, str(original.image_mean), str(original.image_std)]
    parts += [of] if of else []
    return TeacherCache(config.teacher_cache, identity=" ".join(parts), width=original.embed_dim, rank=world.rank)


def _check_size(config: DistillConfig, clip: DenseCLIP) -> None:
    for name, side in (("image_size", config.image_size), ("crop_size", config.crop_size)):
        if side is not None:
            require_whole(side, clip.patch_size, what=name)
