"""Trains a mask generator: FC-CLIP's or ODISE's decoders on frozen features."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipself.backbones.loading import load_clip
from clipself.data.mask_batches import MaskBatch, MaskDataset, collate_masks
from clipself.data.panoptic import PanopticFile
from clipself.data.preprocess import Preprocess
from clipself.engine.callbacks import Callback
from clipself.engine.distributed import World
from clipself.engine.loader import TrainingData
from clipself.engine.resolve import resolve
from clipself.engine.result import TrainResult
from clipself.engine.run import train
from clipself.engine.share import Share
from clipself.engine.step import Step
from clipself.engine.task import Task
from clipself.ops.patches import require_whole
from clipself.panoptic.config import PanopticTrainConfig
from clipself.panoptic.generators.features import open_features
from clipself.panoptic.generators.own import MASK_MODEL, MaskModel, OwnMasks, build_mask_model, save_own_masks
from clipself.panoptic.recipes import PANOPTIC_RECIPES
from clipself.panoptic.supervision import SUPERVISIONS, CaptionSupervision, names_below
from clipself.renamed import old_names
from clipself.text.names import listed

__getattr__ = old_names(__name__)


def train_panoptic(
    config: PanopticTrainConfig | Mapping[str, Any] | str | Path | None = None,
    /,
    *,
    recipe: str | None = None,
    on_step: Callback | None = None,
    on_evaluate: Callback | None = None,
    **options: Any,
) -> TrainResult:
    """Trains a mask generator on panoptic labels.

    Args:
        config: All settings, or a file of them; or give them as keywords.
        recipe: Name of the settings that the keywords change, as on the command line; "small" if not given.
        on_step: Called with the run's `Progress` after each step, in the main process.
        on_evaluate: Likewise after each evaluation inside the run.
        options: Fields of `PanopticTrainConfig`; paths may be strings, tables stand for nested settings.

    Returns:
        Where the generator is (`checkpoint`) and how the loss went.

    Raises:
        ValueError: A setting, an annotation or the CLIP does not fit.
        FileNotFoundError: A file or folder is missing.
        FileExistsError: The folder already holds a run, and neither resume nor overwrite was asked for.
        FloatingPointError: Loss, gradients or weights became NaN or infinite.
    """
    settings = resolve(PanopticTrainConfig, PANOPTIC_RECIPES, config, recipe=recipe, **options)
    return train(PanopticTask, settings, on_step=on_step, on_evaluate=on_evaluate)


class PanopticTask(Task[MaskBatch]):
    """Frozen features feed the decoders, every layer's masks are matched and scored."""

    writes = (MASK_MODEL.weights, MASK_MODEL.card)
    model: MaskModel

    def __init__(self, config: PanopticTrainConfig, world: World) -> None:
        self.config: PanopticTrainConfig = config
        clip = load_clip(config.model, config.pretrained, text_from=config.text_from, device=world.device)
        self.clip = clip.requires_grad_(False)
        self.images = open_training(config)
        self.features = open_features(config.generator, clip)
        _check_size(config.generator.image_size, self.features.step)
        torch.manual_seed(config.seed)  # whatever loading the CLIP has drawn
        self.model = build_mask_model(config.generator, clip, features=self.features, start=True).to(world.device)
        supervision = SUPERVISIONS[getattr(config.generator, "supervision", "label")]
        self.supervision = supervision(config, clip, self.images)

    def data(self) -> TrainingData:
        """Pictures with their segments."""
        dataset = MaskDataset(
            self.images,
            preprocess=Preprocess(mean=self.clip.image_mean, std=self.clip.image_std),
            side=self.config.generator.image_size,
            scales=self.config.jitter,
            flip=self.config.flip,
            seed=self.config.seed,
        )
        names = list(map(names_below(self.config.images), map(str, self.images.paths)))
        return TrainingData(dataset=dataset, collate=collate_masks, names=names)

    def whole_batches(self) -> bool:
        """Captions are one another's negatives."""
        return isinstance(self.supervision, CaptionSupervision) or super().whole_batches()

    def counts(self, batch: MaskBatch) -> Mapping[str, Tensor | float]:
        """What the supervision averages over."""
        return self.supervision.counts(batch)

    def losses(self, model: nn.Module, batch: MaskBatch, step: Step) -> dict[str, Tensor]:
        """Terms of all layers on what the frozen features say."""
        with torch.no_grad():
            read = self.features.read(batch.images_B3HW)
        return self.supervision.losses(model, batch, read, step)

    def identity(self) -> dict[str, Any]:
        """The image tower that is read, and what names the masks."""
        frozen = {"weights of the features": self.features.digest} if self.features.digest else {}
        return {"weights of the CLIP": self.clip.weights_hash("image"), **frozen, **self.supervision.identity()}

    def describe(self, images: int, steps: int) -> str:
        """One line that says what will train on what."""
        millions = sum(parameter.numel() for parameter in self.model.parameters()) / 1e6
        return (
            f"{millions:.1f} M parameters learn on {images} pictures at {self.config.generator.image_size} px, {steps} "
            f"steps; {self.config.model} stays frozen"
        )

    def evaluate(self, share: Share) -> Mapping[str, Any]:
        """PQ, mask AP and mIoU by the generator's own class scores."""
        from clipself.panoptic.evaluate import score_panoptic

        config = self.config
        assert config.evaluate_annotations is not None
        assert config.evaluate_images is not None
        generator = OwnMasks(
            self.model, self.clip, config.generator, trained_names=self.images.occurring(), features=self.features
        )
        data = PanopticFile(config.evaluate_annotations, config.evaluate_images)
        report = score_panoptic(
            generator, {}, data, scores=("generator",), limit=config.evaluate_limit, progress=False, share=share
        )
        (row,) = report.rows
        return {"pq": row.quality.overall.pq, "mask_ap": row.mask_ap, "miou": row.miou, "covered": row.covered}

    def save(self, card: Mapping[str, Any]) -> dict[str, Path]:
        """Pyramid and decoders, and which CLIP they stand on."""
        config = self.config
        folder = save_own_masks(
            config.out,
            self.model,
            config.generator,
            clip=self.clip,
            clip_source={"model": config.model, "pretrained": config.pretrained, "text_from": config.text_from},
            trained_names=self.images.occurring(),
            features_digest=self.features.digest,
            card={"training": card["settings"], "steps": card["steps"], "loss": card["loss"]},
        )
        return {"checkpoint": folder}

    def advice(self, result: TrainResult) -> Sequence[str]:
        """What to run next."""
        return (
            f"next: clipself panoptic evaluate --checkpoint {self.config.out} --scores clip generator both "
            "--annotations FILE --images FOLDER",
        )


def open_training(config: PanopticTrainConfig) -> PanopticFile:
    """The labelled pictures, without those that hold a class to be kept unseen."""
    novel = listed(config.novel) or ()
    return PanopticFile(config.annotations, config.images, segments=config.segments, without=novel)


def _check_size(side: int, step: int) -> None:
    require_whole(side, step, what="image_size", unit=f"{step} pixels, the coarsest step of the features")
