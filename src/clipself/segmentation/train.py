"""Training of a segmenter: what it says to the engine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from clipself.backbones.loading import load_clip
from clipself.data.semantic import SemanticImages, SomeClasses, names_to_segment, open_semantic
from clipself.data.semantic_training import Augmentation, SemanticCrops, collate_semantic
from clipself.engine.callbacks import Callback
from clipself.engine.distributed import World
from clipself.engine.loader import TrainingData
from clipself.engine.resolve import resolve
from clipself.engine.result import TrainResult
from clipself.engine.run import train
from clipself.engine.share import Share
from clipself.engine.step import Step
from clipself.engine.task import Task, digest_of
from clipself.renamed import old_names
from clipself.segmentation.checkpoint import SEGMENTER, save_segmenter
from clipself.segmentation.config import SegmentationTrainConfig
from clipself.segmentation.evaluate import score_segmenter, split_groups
from clipself.segmentation.recipes import SEGMENT_RECIPES
from clipself.segmentation.segmenters import build_model, segmenter_of, type_of
from clipself.structures import SemanticBatch
from clipself.text.names import listed

__getattr__ = old_names(__name__)


class SegmentationTask(Task[SemanticBatch]):
    """Any segmenter of the table on a labelled set."""

    writes = (SEGMENTER.weights, SEGMENTER.card)
    config: SegmentationTrainConfig

    def __init__(self, config: SegmentationTrainConfig, world: World) -> None:
        self.config, self.labelled = config, open_training(config)
        self.class_names, self.row = self.labelled.class_names, type_of(config.segmenter)
        clip = load_clip(config.model, config.pretrained, text_from=config.text_from, device=world.device)
        self.digest = clip.weights_hash()
        self.segmenter = build_model(config.segmenter, clip, crop=config.crop, seed=config.seed).to(world.device)
        self.model = self.segmenter
        self.groups = self.row.groups(self.segmenter, weight_decay=config.weight_decay)
        self.loss = self.row.loss(self.segmenter, self.class_names, ignore_label=self.labelled.ignore_label)

    def data(self) -> TrainingData:
        """Crops of the labelled pictures."""
        config = self.config
        how = Augmentation(crop=config.crop, shortest=config.shortest, flip=config.flip, colour=config.colour)
        crops = SemanticCrops(self.labelled, how, seed=config.seed)
        return TrainingData(dataset=crops, collate=collate_semantic, names=self.labelled.image_names)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Those of the segmenter's row."""
        return self.groups

    def counts(self, batch: SemanticBatch) -> Mapping[str, Tensor | float]:
        """What the segmenter's loss averages over."""
        return self.loss.counts(batch)

    def losses(self, model: nn.Module, batch: SemanticBatch, step: Step) -> Mapping[str, Tensor]:
        """The terms of the segmenter's loss."""
        return self.loss.losses(model, batch, step)

    def identity(self) -> Mapping[str, Any]:
        """The CLIP's weights and the classes."""
        return {"weights of the CLIP": self.digest, "classes": digest_of(self.class_names)}

    def describe(self, images: int, steps: int) -> str:
        """One line that says what will train on what."""
        millions = sum(one.numel() for group in self.groups for one in group["params"]) / 1e6
        return (
            f"{self.config.segmenter.method} on {self.config.model}: {millions:.2f} M parameters learn "
            f"{len(self.class_names)} classes on {images} pictures, {steps} steps"
        )

    def evaluate(self, share: Share) -> Mapping[str, Any]:
        """MIoU of the model as it is, base and novel classes apart."""
        config = self.config
        assert config.evaluate_annotations is not None
        data = open_semantic(config.evaluate_annotations, images=config.evaluate_images)
        report = score_segmenter(
            segmenter_of(self.segmenter, names_to_segment(data), crop=config.crop), data, progress=False,
            groups=split_groups(data.class_names, self.class_names), limit=config.evaluate_limit, share=share,
        )  # fmt: skip
        return report.summary()

    def save(self, card: Mapping[str, Any]) -> Mapping[str, Path]:
        """Writes `segmenter.safetensors` and `segmenter.json` into the run's folder."""
        config = self.config
        clip = {"model": config.model, "pretrained": config.pretrained, "text_from": config.text_from}
        kept = {"training": card["settings"], "steps": card["steps"], "loss": card["loss"]}
        return {
            "model": save_segmenter(
                self.segmenter, config.out, clip=clip, digest=self.digest, crop=config.crop, names=self.class_names,
                card=kept,
            )
        }  # fmt: skip

    def advice(self, result: TrainResult) -> Sequence[str]:
        """What to run next."""
        return [
            f"next: clipself segment evaluate --checkpoint {result.out} --annotations FILE --images FOLDER",
            f"      clipself segment predict PICTURE.jpg --checkpoint {result.out}",
        ]


def train_segmenter(
    config: SegmentationTrainConfig | Mapping[str, Any] | str | Path | None = None,
    /,
    *,
    recipe: str | None = None,
    on_step: Callback | None = None,
    on_evaluate: Callback | None = None,
    **options: Any,
) -> TrainResult:
    """Trains a segmenter.

    Args:
        config: All settings, also as a table or a file such as a run's `config.json`.
        recipe: Name of the recipe that `options` change; "small-catseg" if neither it nor a config is given.
        on_step: Called with the run's `Progress` after each step, in the main process.
        on_evaluate: Likewise after each evaluation inside the run.
        options: Fields of `SegmentationTrainConfig`.

    Returns:
        Where the model is and how the loss went.

    Raises:
        ValueError: A setting, the data or a checkpoint does not fit.
        FileNotFoundError: A file or folder is missing.
        FileExistsError: The folder already holds a run, and neither resume nor overwrite was asked for.
        FloatingPointError: The loss became NaN or infinite.
    """
    settings = resolve(SegmentationTrainConfig, SEGMENT_RECIPES, config, recipe=recipe, **options)
    return train(SegmentationTask, settings, on_step=on_step, on_evaluate=on_evaluate)


def open_training(config: SegmentationTrainConfig) -> SemanticImages:
    """The labelled set, with the classes that are not to be learnt ignored.

    Raises:
        ValueError: A name is no class of the data, or none is left.
    """
    data = open_semantic(config.annotations, images=config.images, split="train")
    base, novel = listed(config.base), listed(config.novel)
    if base is not None:
        return SomeClasses(data, base)
    if novel is not None:
        unknown = sorted(set(novel) - set(data.class_names))
        if len(unknown) == len(novel):
            raise ValueError(
                f"none of the names in {', '.join(config.novel or ())} is a class of the data, such as {unknown[0]!r}"
            )
        return SomeClasses(data, [name for name in data.class_names if name not in set(novel)])
    return data
