"""Pre-trains a CLIP on pictures with captions."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.export import save_clip
from clipself.backbones.loading import build_clip, load_clip
from clipself.backbones.trainable import train_whole
from clipself.choices import pick
from clipself.data.caption_pairs import CaptionDataset, CaptionSource, collate_captions, open_captions
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
from clipself.losses.contrast import CONTRASTS
from clipself.metrics.retrieval import retrieval_scores
from clipself.ops.patches import require_whole
from clipself.ops.positions import draw_crop
from clipself.pretraining.config import PretrainConfig
from clipself.pretraining.pair_tower import Disturbance, FeatureDecoder, Pairs, PairTower, draw_visible
from clipself.pretraining.recipes import PRETRAIN_RECIPES
from clipself.structures import CaptionBatch

FIRST_TEMPERATURE = 1 / 0.07
"""CLIP's (arXiv:2103.00020)."""
AT_ONCE = 64
"""Pictures or texts in one pass of an evaluation."""


def pretrain(
    config: PretrainConfig | Mapping[str, Any] | str | Path | None = None,
    /,
    *,
    recipe: str | None = None,
    on_step: Callback | None = None,
    on_evaluate: Callback | None = None,
    **options: Any,
) -> TrainResult:
    """Pre-trains a CLIP on pictures with captions, from its weights or from scratch.

    Args:
        config: All settings, or a file of them; or give them as keywords.
        recipe: Name of the settings that the keywords change; "small" if not given.
        on_step: Called with the run's `Progress` after each step, in the main process.
        on_evaluate: Likewise after each evaluation inside the run.
        options: Fields of `PretrainConfig`; paths may be strings.

    Returns:
        Where the CLIP is (`clip`), a folder that every command takes as a model, and how the loss went.

    Raises:
        ValueError: A setting, a caption or a checkpoint does not fit.
        FileNotFoundError: A file or folder is missing.
        FileExistsError: The folder already holds a run, and neither resume nor overwrite was asked for.
        FloatingPointError: Loss, gradients or weights became NaN or infinite.
    """
    settings = resolve(PretrainConfig, PRETRAIN_RECIPES, config, recipe=recipe, **options)
    return train(PretrainTask, settings, on_step=on_step, on_evaluate=on_evaluate)


class PretrainTask(Task[CaptionBatch]):
    """Both towers and the pairs of all processes."""

    writes = ("clip",)
    config: PretrainConfig
    model: PairTower

    def __init__(self, config: PretrainConfig, world: World) -> None:
        self.config, self.world = config, world
        self.clip = open_clip_to_train(config, world.device)
        self.begun_from = self.clip.weights_hash()
        size = (config.image_size, config.image_size) if config.image_size else self.clip.image_size
        require_whole(size[0], self.clip.patch_size, what="image_size")
        self.source = open_captions(config.annotations, config.images)
        self.dataset = CaptionDataset(
            self.source, preprocess=Preprocess(mean=self.clip.image_mean, std=self.clip.image_std),
            tokenizer=self.clip.tokenizer, size=size, area=config.picture_area, flip=config.flip, seed=config.seed,
            skip_unreadable=config.skip_unreadable,
        )  # fmt: skip
        self.size = size
        self.patches = (size[0] // self.clip.patch_size) * (size[1] // self.clip.patch_size)
        decoder = None
        if config.hidden:
            decoder = FeatureDecoder(
                width=self.clip.trunk.width, inner=config.decoder_width, layers=config.decoder_layers,
                embed_dim=self.clip.embed_dim,
            ).to(world.device)  # fmt: skip
        self.model = PairTower(
            self.clip, decoder=decoder, counted=config.counted, crop_grid=config.crop_grid,
            most_temperature=config.most_temperature,
        )  # fmt: skip
        self.clip.set_grad_checkpointing(config.grad_checkpointing)
        self._evaluation = self._open_evaluation()

    def data(self) -> TrainingData:
        """Pictures with captions, in the order in which they read well."""
        return TrainingData(
            dataset=self.dataset, collate=collate_captions, names=self.source.names, order=self.source.order
        )

    def whole_batches(self) -> bool:
        """Pairs are one another's negatives."""
        return True

    def counts(self, batch: CaptionBatch) -> dict[str, float]:
        """Pairs: every term is a mean over them."""
        return {"pairs": float(len(batch))}

    def losses(self, model: nn.Module, batch: CaptionBatch, step: Step) -> dict[str, Tensor]:
        """The contrast of the pairs of all processes, of which this one answers for its part, and reconstruction."""
        pairs: Pairs = model(batch.images_B3HW, batch.tokens_BL, self._disturb(batch, step))
        contrast, share = pick(CONTRASTS, self.config.contrast, what="contrast"), len(batch) / step.totals["pairs"]
        with torch.autocast(self.world.device.type, enabled=False):
            images, texts = step.world.gather(pairs.images_BD.float()), step.world.gather(pairs.texts_BD.float())
            loss = contrast(images, texts, temperature=pairs.temperature.float()) / len(images)
        terms = {"contrast": share * loss}
        if pairs.reconstruction is not None:
            weight = self.config.reconstruction_weight
            terms["reconstruction"] = weight * pairs.reconstruction / step.totals["pairs"]
        return terms

    def _disturb(self, batch: CaptionBatch, step: Step) -> Disturbance:
        config, device = self.config, self.world.device

        def chance(what: str) -> list[torch.Generator]:
            return [step.generator(what, name) for name in batch.names]

        crops = keep = visible = None
        if config.cropped_positions:
            side, area, aspect = float(config.crop_grid), config.crop_area, config.crop_aspect
            crops = torch.stack([draw_crop(one, side=side, area=area, aspect=aspect) for one in chance("crop")])
        if config.position_drop:
            drawn = torch.cat([torch.rand(1, generator=one) for one in chance("positions")])
            keep = drawn >= config.position_drop
        if config.hidden:
            visible = draw_visible(chance("hidden"), patches=self.patches, hidden=config.hidden)
        moved = [None if one is None else one.to(device) for one in (crops, keep, visible)]
        return Disturbance(crops_B4=moved[0], keep_B=moved[1], visible_BV=moved[2])

    def identity(self) -> dict[str, Any]:
        """The weights that it began with."""
        return {"first weights": self.begun_from}

    def describe(self, images: int, steps: int) -> str:
        """One line that says what will train on what."""
        millions = sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad) / 1e6
        return (
            f"{self.config.model}: {millions:.1f} M parameters learn on {images} pairs at {self.size[0]} px, "
            f"{self.config.contrast} contrast, {steps} steps"
        )

    def evaluate(self, share: Share) -> Mapping[str, Any]:
        """Zero-shot retrieval of held-out captions and pictures."""
        assert self._evaluation is not None
        limit = self.config.evaluate_limit
        return score_retrieval(self.clip, self._evaluation, size=self.size, limit=limit, share=share)

    def save(self, card: Mapping[str, Any]) -> dict[str, Path]:
        """The CLIP alone."""
        more = {"pretrained_by": "clipself pretrain", "began_with": self.begun_from, **card}
        return {"clip": save_clip(self.clip, self.config.out / "clip", card=more)}

    def advice(self, result: TrainResult) -> Sequence[str]:
        """What to run next."""
        folder = self.config.out / "clip"
        return (
            f"next: clipself distill --model {folder} --data FOLDER --out RUN",
            f"      clipself detect train --recipe small-rovit --model {folder} --annotations FILE --images FOLDER",
        )

    def _open_evaluation(self) -> CaptionSource | None:
        config = self.config
        if not config.evaluate_every:
            return None
        assert config.evaluate_annotations is not None
        return open_captions(config.evaluate_annotations, config.evaluate_images)


def open_clip_to_train(config: PretrainConfig, device: torch.device) -> DenseCLIP:
    """The model that the settings name, with its weights or new ones, all of it learning.

    Raises:
        ValueError: It has no text tower.
    """
    clip = load_clip(config.model, config.pretrained, text_from=config.text_from, device=device, seed=config.seed)
    if config.scratch:
        clip = begin_anew(clip)
    if clip.identity.text is None:
        raise ValueError(f"{config.model} has no text tower to train; name its release with text_from (--text-from)")
    train_whole(clip.clip)
    scale: Any = clip.clip.logit_scale
    new = config.scratch or str(config.pretrained) == "random"
    start = config.start_temperature or (FIRST_TEMPERATURE if new else None)
    if start is not None:
        with torch.no_grad():
            scale.fill_(math.log(start))
    bias = getattr(clip.clip, "logit_bias", None)
    if bias is not None:  # SigLIP's, which neither contrast has
        bias.requires_grad_(False)
    return clip


def begin_anew(clip: DenseCLIP) -> DenseCLIP:
    """The same architecture with weights of the global generator, and the stem that stays frozen as it was."""
    from clipself.backbones.mini_tower import EfficientStem

    fresh = build_clip(
        clip.name, clip.model_cfg, identity=clip.identity, mean=clip.image_mean, std=clip.image_std,
        folder=None if clip.merges_file is None else clip.merges_file.parent, random=True,
    )  # fmt: skip
    stems = [[one for one in each.clip.modules() if isinstance(one, EfficientStem)] for each in (fresh, clip)]
    for new, old in zip(*stems, strict=True):
        new.load_state_dict(old.state_dict(), strict=True)
    return fresh.to(clip.device)


@torch.no_grad()
def score_retrieval(
    clip: DenseCLIP,
    source: CaptionSource,
    *,
    size: tuple[int, int],
    limit: int | None = None,
    share: Share | None = None,
) -> dict[str, float]:
    """Recall at 1, 5 and 10 of texts by pictures and of pictures by texts, in percent, over all captions.

    Args:
        clip: The model; it is put into evaluation mode.
        source: Pictures with captions.
        size: Height and width of its input.
        limit: First pictures only.
        share: Cuts the pictures among the processes of a run.
    """
    clip.eval()
    count = min(len(source.names), limit or len(source.names))
    starts = range(0, count, AT_ONCE)

    def embed(place: int) -> tuple[Tensor, Tensor, list[int]]:
        start = starts[place]
        read = [source.read(index) for index in range(start, min(count, start + AT_ONCE))]
        images = clip.encode_image(torch.stack([clip.preprocess(image, size=size) for image, _ in read])).float()
        said = [caption for _, captions in read for caption in captions]
        texts = [clip.encode_text(said[row : row + AT_ONCE]).float() for row in range(0, len(said), AT_ONCE)]
        return images.cpu(), torch.cat(texts).cpu(), [start + row for row, (_, all_) in enumerate(read) for _ in all_]

    parts = list((share or Share()).of(len(starts), lambda places: map(embed, places)))
    images = torch.cat([part[0] for part in parts]).to(clip.device)
    texts = torch.cat([part[1] for part in parts]).to(clip.device)
    owners = torch.tensor([owner for part in parts for owner in part[2]], device=clip.device)
    return retrieval_scores(images, texts, owners)
