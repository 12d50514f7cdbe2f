"""Trains a detector on base classes: any row of `DETECTORS`."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from clipself.backbones.loading import load_clip
from clipself.backbones.text import make_vocabulary
from clipself.backbones.weights import read_state_dict, weights_in
from clipself.data.detection import CocoDetection, DetectionDataset, collate_detection
from clipself.data.images.inside import change_of
from clipself.data.mixture import repeat_factors
from clipself.data.mosaic import MosaicDataset
from clipself.detection.checkpoint import DETECTOR, as_module, load_learned, save_detector
from clipself.detection.config import DetectionTrainConfig
from clipself.detection.detector import Detector
from clipself.detection.detectors.table import build_detector
from clipself.detection.evaluate import score_detector
from clipself.detection.image_labels import add_image_labels, open_image_labels
from clipself.detection.protocol import CachesFeatures, DetectorModel, running_statistics
from clipself.detection.recipes import DETECT_RECIPES
from clipself.engine.callbacks import Callback
from clipself.engine.distributed import World
from clipself.engine.loader import TrainingData
from clipself.engine.resolve import resolve
from clipself.engine.result import TrainResult
from clipself.engine.run import train
from clipself.engine.share import Share
from clipself.engine.step import Step
from clipself.engine.task import Task, digest_of
from clipself.structures import DetectionBatch
from clipself.text.names import listed
from clipself.text.printable import name_bytes


class DetectionTask(Task[DetectionBatch]):
    """A detector of the table and the boxes of base classes."""

    writes = (DETECTOR.weights, DETECTOR.card)
    config: DetectionTrainConfig

    def __init__(self, config: DetectionTrainConfig, world: World) -> None:
        self.config, self.world, settings = config, world, config.detector
        clip = load_clip(config.model, config.pretrained, text_from=config.text_from, device=world.device)
        self.clip_digest = clip.weights_hash(settings.clip_part)
        self.source = CocoDetection(
            config.annotations, config.images, split=config.split, base=listed(config.base), novel=listed(config.novel),
            masks=settings.wants_masks, keep_empty=config.keep_empty,
        )  # fmt: skip
        classes = self.source.classes
        vocabulary = make_vocabulary(clip, classes.names, base=classes.base, **settings.spoken)
        self.detector: DetectorModel = build_detector(clip, settings, vocabulary, seed=config.seed)
        self.detector.prepare(self.source)
        if config.start_from is not None:  # in place of what a trunk begins with
            path = weights_in(config.start_from / DETECTOR.weights)
            load_learned(self.detector, read_state_dict(path), source=str(path))
        self.model = as_module(self.detector)
        self.dataset = DetectionDataset(
            self.source, self.detector.framing(scales=config.scales, flip=config.flip), seed=config.seed,
            views=config.views,
        )  # fmt: skip
        self.samples = MosaicDataset(self.dataset, config.mosaics) if config.mosaics else self.dataset
        self._open_cache()
        self.labels = open_image_labels(config, classes.names)
        shared: dict[str, Any] = {"collate": collate_detection, "weights": self._weights()}
        self.training_data = TrainingData(dataset=self.samples, names=self.source.names, **shared)
        if self.labels is not None:
            mixed, second = add_image_labels(self.samples, self.labels, self.detector, config)
            names = [*self.source.names, *self.labels.files]
            self.training_data = TrainingData(dataset=mixed, names=names, second=second, **shared)
        self._evaluation_data = self._open_evaluation()

    def _weights(self) -> Tensor | None:
        """How often each image with boxes is drawn; None for each once."""
        threshold = self.config.repeat_below
        if not threshold:
            return None
        return repeat_factors(
            [self.source.labels(index).tolist() for index in range(len(self.source))], threshold=threshold
        )

    def data(self) -> TrainingData:
        """Images with boxes of base classes, and behind them those with labels alone."""
        return self.training_data

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The detector says what decays and what learns at another rate."""
        return self.detector.parameter_groups(weight_decay=self.config.weight_decay)

    def kept(self) -> Sequence[Tensor]:
        """Running statistics of the heads' norms."""
        return running_statistics(self.model, self.detector.clip)

    def whole_batches(self) -> bool:
        """Captions are one another's negatives, and some detectors compare images or average over their matches."""
        compared = self.config.detector.whole_batches or self.config.image_label_captions > 0
        return compared or super().whole_batches()

    def counts(self, batch: DetectionBatch) -> Mapping[str, Tensor | float]:
        """What the detector's losses average over, and the images."""
        return {"images": float(len(batch.names)), **self.detector.counts(batch)}

    def losses(self, model: nn.Module, batch: DetectionBatch, step: Step) -> Mapping[str, Tensor]:
        """The detector's own."""
        losses: dict[str, Tensor] = model(batch, step)
        return losses

    def identity(self) -> dict[str, Any]:
        """The backbone, and what training may see."""
        classes = self.source.classes
        return {
            "backbone": self.clip_digest,
            "base classes": digest_of(classes.base),
            "novel classes": digest_of(classes.novel),
            **({} if self.labels is None else {"image labels": digest_of(self._said_labels())}),
        }

    def _said_labels(self) -> Iterator[str]:
        assert self.labels is not None
        yield from self.labels.names
        yield from map(str, self.labels.labels)

    def describe(self, images: int, steps: int) -> str:
        """One line that says what will train on what."""
        learning = [parameter for group in self.parameter_groups() for parameter in group["params"]]
        millions = sum(parameter.numel() for parameter in learning) / 1e6
        classes = self.source.classes
        labelled = 0 if self.labels is None else len(self.labels)
        kinds = f"{images - labelled} images with boxes and {labelled} with labels" if labelled else f"{images} images"
        return (
            f"{self.config.detector.method} on {self.config.model}: {millions:.1f} M parameters learn on {kinds}, "
            f"{len(classes.base)} base and {len(classes.novel)} novel classes, {steps} steps"
        )

    def evaluate(self, share: Share) -> Mapping[str, Any]:
        """AP by group of the detector as it is."""
        assert self._evaluation_data is not None
        training = self.detector.vocabulary
        try:
            report = score_detector(
                Detector(self.detector), self._evaluation_data, limit=self.config.evaluate_limit, progress=False,
                share=share,
            )  # fmt: skip
        finally:
            self.detector.use(training)
        return dict(report.summary)

    def flush(self) -> None:
        """Writes what the feature cache still holds in memory."""
        if isinstance(self.detector, CachesFeatures):
            self.detector.flush_features()

    def save(self, card: Mapping[str, Any]) -> dict[str, Path]:
        """Writes the heads and their card."""
        config = self.config
        card = {"training": card["settings"], "steps": card["steps"], "loss": card["loss"]}
        folder = save_detector(
            self.detector, config.out, model=config.model, pretrained=config.pretrained, text_from=config.text_from,
            digest=self.clip_digest, card=card,
        )  # fmt: skip
        return {"detector": folder}

    def advice(self, result: TrainResult) -> list[str]:
        """What to do with a detector."""
        return [f"next: clipself detect evaluate | detect predict | proposals --checkpoint {result.out}"]

    def _open_evaluation(self) -> CocoDetection | None:
        config = self.config
        if not config.evaluate_every:
            return None
        assert config.evaluate_annotations is not None
        assert config.evaluate_images is not None
        return CocoDetection(
            config.evaluate_annotations, config.evaluate_images, split=config.split, base=listed(config.base),
            novel=listed(config.novel), train=False,
        )  # fmt: skip

    def _open_cache(self) -> None:
        config = self.config
        if config.feature_cache is None:
            return
        if self.world.size > 1:
            raise ValueError("feature_cache is written by one process; run without torchrun, or without the cache")
        if not isinstance(self.detector, CachesFeatures):
            raise ValueError(f"the detector {config.detector.method} has no frozen features to keep in a feature_cache")
        views = config.views or 1
        pictures = digest_of_files(self.source.names, self.source.paths)
        identity = f"{pictures} {self.dataset.framing} {config.seed} {views} {config.precision}"
        self.detector.cache_features(config.feature_cache, identity=identity, rows=len(self.dataset) * views)


def digest_of_files(names: Sequence[str], paths: Sequence[Path]) -> str:
    """A digest of files in their order: their names, sizes and times of change, so that other pictures are others."""
    digest = hashlib.sha256()
    for name, path in zip(names, paths, strict=True):
        digest.update(name_bytes(f"{name} {change_of(path)}\n"))
    return digest.hexdigest()


def train_detector(
    config: DetectionTrainConfig | Mapping[str, Any] | str | Path | None = None,
    /,
    *,
    recipe: str | None = None,
    on_step: Callback | None = None,
    on_evaluate: Callback | None = None,
    **options: Any,
) -> TrainResult:
    """Trains a detector on the base classes of a COCO-format file.

    Args:
        config: All settings: an object, a table, or the file of a run's `config.json`.
        recipe: Complete settings by name, which `options` change; `small` if not given.
        on_step: Called with the run's `Progress` after each step, in the main process.
        on_evaluate: Likewise after each evaluation inside the run.
        options: Fields of `DetectionTrainConfig`; text stands for paths, a table for some settings of the detector.

    Returns:
        Where the detector is and how the loss went.

    Raises:
        ValueError: A setting, an annotation or the model does not fit.
        FileNotFoundError: A file is missing.
        FileExistsError: The folder holds a run already.
        FloatingPointError: The loss became NaN or infinite.
    """
    settings = resolve(DetectionTrainConfig, DETECT_RECIPES, config, recipe=recipe, **options)
    return train(DetectionTask, settings, on_step=on_step, on_evaluate=on_evaluate)
