"""Trains a region prompt: the positions of a frozen CLIP's attention pool, on the boxes of base classes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipself.backbones.head_folder import load_heads, save_heads
from clipself.backbones.loading import load_clip
from clipself.backbones.text import make_vocabulary
from clipself.data.detection import CocoDetection, DetectionDataset, collate_detection
from clipself.detection.region_prompt.classify import classify_boxes, framing_of, shares_of
from clipself.detection.region_prompt.config import PROMPT_RECIPES, PromptTrainConfig
from clipself.detection.region_prompt.file import PROMPT, PROMPT_FOLDER
from clipself.detection.region_prompt.loss import prompt_loss, region_logits
from clipself.detection.region_prompt.regions import ClipRegions, ResNetRegions, clip_regions
from clipself.engine.callbacks import Callback
from clipself.engine.distributed import World
from clipself.engine.loader import TrainingData
from clipself.engine.resolve import resolve
from clipself.engine.result import TrainResult
from clipself.engine.run import train
from clipself.engine.share import Share
from clipself.engine.step import Step
from clipself.engine.task import Task, digest_of
from clipself.metrics.accuracy import MeanClassAccuracy
from clipself.structures import DetectionBatch
from clipself.text.names import listed


class PromptLearner(nn.Module):
    """Regions of a CLIP and the names that they are told apart by.

    Args:
        regions: With a prompt, which learns.
        texts_KD: Unit embeddings of the base names.
        temperature: Factor of the cosine.
    """

    def __init__(self, regions: ClipRegions, texts_KD: Tensor, *, temperature: float) -> None:
        super().__init__()
        assert regions.prompt is not None
        self.regions: ClipRegions = regions
        self.prompt = regions.prompt.requires_grad_(True)
        self.texts_KD, self.temperature = texts_KD, temperature

    def forward(self, batch: DetectionBatch) -> Tensor:
        """Logits (R, K) of all boxes of a batch."""
        maps = self.regions.read(batch.images_B3HW, batch.sizes)
        return region_logits(self.regions.embed(maps, shares_of(batch)), self.texts_KD, temperature=self.temperature)


class PromptTask(Task[DetectionBatch]):
    """The table of positions and the boxes of base classes.

    Raises:
        ValueError: The CLIP has no attention pool, or the data does not fit.
    """

    writes = (PROMPT_FOLDER.weights, PROMPT_FOLDER.card)
    config: PromptTrainConfig
    model: PromptLearner

    def __init__(self, config: PromptTrainConfig, world: World) -> None:
        self.config, self.world = config, world
        clip = load_clip(config.model, config.pretrained, text_from=config.text_from, device=world.device)
        self.clip_digest = clip.weights_hash(PROMPT_FOLDER.clip_part)
        regions = clip_regions(clip)
        if not isinstance(regions, ResNetRegions):
            raise ValueError(
                f"{config.model} pools by a {clip.trunk.pools_by}, so there are no positions of an attention pool to "
                "tune; name one of CLIP's ResNets, such as RN50"
            )
        self.source = CocoDetection(
            config.annotations, config.images, split=config.split, base=listed(config.base),
            novel=listed(config.novel), keep_empty=config.keep_empty,
        )  # fmt: skip
        classes = self.source.classes
        self.rank_K = torch.tensor(classes.is_base).cumsum(0) - 1
        self.texts_KD = make_vocabulary(clip, classes.base, base=classes.base, **config.regions.spoken).texts_KD[:-1]
        self.model = PromptLearner(regions, self.texts_KD, temperature=config.regions.temperature).to(world.device)
        self.framing = framing_of(config.regions, clip, sides=config.short_sides, flip=config.flip, crop=config.crop)

    def data(self) -> TrainingData:
        """Images with boxes of base classes."""
        dataset = DetectionDataset(self.source, self.framing, seed=self.config.seed)
        return TrainingData(dataset=dataset, collate=collate_detection, names=self.source.names)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The table decays, as released."""
        return [{"params": [self.model.prompt], "weight_decay": self.config.weight_decay}]

    def counts(self, batch: DetectionBatch) -> Mapping[str, Tensor | float]:
        """Boxes, over which the loss is a mean, and images."""
        return {"boxes": float(sum(map(len, batch.labels))), "images": float(len(batch.names))}

    def losses(self, model: nn.Module, batch: DetectionBatch, step: Step) -> Mapping[str, Tensor]:
        """Cross entropy of the boxes' names."""
        labels_R = self.rank_K.to(self.world.device)[torch.cat(batch.labels)]
        return {"regions": prompt_loss(model(batch), labels_R) / step.totals["boxes"].clamp(min=1)}

    def identity(self) -> dict[str, Any]:
        """The CLIP, and what training may see."""
        classes = self.source.classes
        return {
            "backbone": self.clip_digest,
            "base classes": digest_of(classes.base),
            "novel classes": digest_of(classes.novel),
        }

    def evaluate(self, share: Share) -> Mapping[str, Any]:
        """Accuracy of true boxes among all names of the evaluation's classes, in percent."""
        config, clip = self.config, self.model.regions.clip
        assert config.evaluate_annotations is not None
        assert config.evaluate_images is not None
        data = CocoDetection(
            config.evaluate_annotations, config.evaluate_images, split=config.split, base=listed(config.base),
            novel=listed(config.novel), train=False,
        )  # fmt: skip
        names = data.classes.names
        texts_KD = make_vocabulary(clip, names, base=data.classes.base, **config.regions.spoken).texts_KD[:-1]
        meter = MeanClassAccuracy(len(names), topk=(1,))
        named = classify_boxes(
            self.model.regions, texts_KD, data, self.framing, temperature=config.regions.temperature,
            batch_size=config.batch_size, share=share, limit=config.evaluate_limit,
        )  # fmt: skip
        for index, logits_RK in named:
            meter.update(logits_RK, data.labels(index))
        found, base_K = meter.compute()[1], torch.tensor(data.classes.is_base)
        groups = {"base": base_K, "novel": ~base_K}
        means = {f"mAcc {name}": float(found.per_class_K[mask].nanmean()) for name, mask in groups.items()}
        return {"accuracy": found.overall, "mAcc": found.mean, **means}

    def save(self, card: Mapping[str, Any]) -> dict[str, Path]:
        """Writes the prompt under its released name, and a card."""
        config = self.config
        facts = {"training": card["settings"], "steps": card["steps"], "loss": card["loss"]}
        folder = save_heads(
            config.out, PROMPT_FOLDER, {PROMPT: self.model.prompt}, model=config.model, pretrained=config.pretrained,
            text_from=config.text_from, digest=self.clip_digest, settings=config.regions,
            names=self.source.classes.base, card=facts,
        )  # fmt: skip
        return {"prompt": folder / PROMPT_FOLDER.weights}

    def advice(self, result: TrainResult) -> list[str]:
        """What to do with a prompt."""
        prompt = result.out / PROMPT_FOLDER.weights
        return [f"next: clipself detect relabel --prompt {prompt} ... and detect train --detector.prompt {prompt}"]


def open_prompt(folder: str | Path, *, device: str = "cpu") -> ResNetRegions:
    """The CLIP that a trained prompt is for, with the prompt.

    Args:
        folder: That `clipself detect prompt` wrote.
        device: Where all of it goes.

    Raises:
        FileNotFoundError: There is no prompt in the folder, or its CLIP has moved.
        ValueError: The prompt or the CLIP is not that of the training.
    """
    heads = load_heads(folder, PROMPT_FOLDER, device=device)
    regions = heads.build(lambda: ResNetRegions(heads.clip))
    regions.take_prompt(heads.folder / PROMPT_FOLDER.weights)
    return regions.to(device)


def train_prompt(
    config: PromptTrainConfig | Mapping[str, Any] | str | Path | None = None,
    /,
    *,
    recipe: str | None = None,
    on_step: Callback | None = None,
    on_evaluate: Callback | None = None,
    **options: Any,
) -> TrainResult:
    """Trains a region prompt on the base classes of a COCO-format file.

    Args:
        config: All settings: an object, a table, or the file of a run's `config.json`.
        recipe: Complete settings by name, which `options` change; `ov-coco-rn50` if not given.
        on_step: Called with the run's `Progress` after each step, in the main process.
        on_evaluate: Likewise after each evaluation inside the run.
        options: Fields of `PromptTrainConfig`.

    Returns:
        Where the prompt is and how the loss went.

    Raises:
        ValueError: A setting, an annotation or the model does not fit.
        FileNotFoundError: A file is missing.
        FileExistsError: The folder holds a run already.
        FloatingPointError: The loss became NaN or infinite.
    """
    settings = resolve(PromptTrainConfig, PROMPT_RECIPES, config, recipe=recipe, **options)
    return train(PromptTask, settings, on_step=on_step, on_evaluate=on_evaluate)
