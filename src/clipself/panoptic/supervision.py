"""From what a mask generator learns which classes there are: labels of segments, or captions of pictures."""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import embed_names
from clipself.data.captions import read_captions
from clipself.data.mask_batches import MaskBatch
from clipself.data.panoptic import PanopticFile
from clipself.engine.step import Step
from clipself.engine.task import digest_of
from clipself.losses.grounding import caption_similarity, grounding_loss
from clipself.losses.mask_classification import MaskClassificationLoss, TermWeights
from clipself.panoptic.config import PanopticTrainConfig
from clipself.panoptic.generators.mask_heads import ScoredMasks
from clipself.panoptic.settings import MaskLossSettings
from clipself.structures import MaskTargets, TextRows
from clipself.text.nouns import nouns_of


class MaskSupervision(Protocol):
    """What a training of masks asks of it."""

    def counts(self, batch: MaskBatch) -> Mapping[str, Tensor | float]:
        """What the losses average over."""

    def losses(self, model: nn.Module, batch: MaskBatch, read: Sequence[Tensor], step: Step) -> dict[str, Tensor]:
        """Named terms, this micro-batch's share of the step; `read` is what the decoders stand on."""

    def identity(self) -> Mapping[str, str]:
        """What a continuation must share."""


class LabelSupervision:
    """Every segment's label is one of the file's class names.

    Args:
        config: Of the run.
        clip: Whose text tower speaks the names.
        images: Labelled pictures.
    """

    def __init__(self, config: PanopticTrainConfig, clip: DenseCLIP, images: PanopticFile) -> None:
        self.queries, self.name_of, self.loss = (
            config.generator.queries,
            names_below(config.images),
            make_loss(config.loss),
        )
        self.class_names = images.class_names
        self.text = embed_names(clip, images.class_names, templates=config.generator.templates, wording="short")

    def counts(self, batch: MaskBatch) -> Mapping[str, Tensor | float]:
        """Labelled masks, and the weight of all predictions in the class term."""
        return self.loss.counts(batch.targets, queries=self.queries)

    def losses(self, model: nn.Module, batch: MaskBatch, read: Sequence[Tensor], step: Step) -> dict[str, Tensor]:
        """Class, mask and dice over all layers; each picture draws points of its own."""
        scored: list[ScoredMasks] = model(batch.images_B3HW, read, self.text, all_layers=True)
        return mask_terms(self.loss, scored, batch, batch.targets, step, self.name_of)

    def identity(self) -> Mapping[str, str]:
        """The classes."""
        return {"classes": digest_of(self.class_names)}


class CaptionSupervision:
    """Segments are objects without names; the nouns of captions are grounded in them.

    Source: ODISE (arXiv:2303.04803), Sec. 3.3. Nouns are names of the packaged vocabularies, where the release asks a
    tagger; the pictures of a micro-batch, of all processes, are one another's negatives.

    Args:
        config: Of the run.
        clip: Whose text tower speaks the nouns.
        images: Labelled pictures.

    Raises:
        ValueError: No picture has a caption with a known noun.
    """

    def __init__(self, config: PanopticTrainConfig, clip: DenseCLIP, images: PanopticFile) -> None:
        settings: Any = config.generator
        assert config.captions is not None
        self.queries, self.most, self.weight = settings.queries, settings.words, config.loss.caption_weight
        self.name_of, self.loss = names_below(config.images), make_loss(config.loss)
        self.nouns = nouns_by_picture(images, config.captions, self.name_of)
        spoken = sorted({noun for captions in self.nouns.values() for nouns in captions for noun in nouns})
        self.place = {noun: place for place, noun in enumerate(spoken)}
        self.rows = embed_names(clip, spoken, templates=settings.templates, wording="short").rows_SD

    def counts(self, batch: MaskBatch) -> Mapping[str, Tensor | float]:
        """Labelled masks, the weight of all predictions in the term of objects, and pictures with nouns."""
        captioned = sum(bool(self.nouns[self.name_of(name)]) for name in batch.names)
        return {**self.loss.counts(batch.targets, queries=self.queries), "captions": float(captioned)}

    def losses(self, model: nn.Module, batch: MaskBatch, read: Sequence[Tensor], step: Step) -> dict[str, Tensor]:
        """Object, mask and dice as with labels, and the grounding of captions, over all layers."""
        drawn = [self.draw(self.name_of(name), step) for name in batch.names]
        kept = [place for place, nouns in enumerate(drawn) if nouns]
        own = torch.tensor([drawn[place] + [-1] * (self.most - len(drawn[place])) for place in kept])
        own = own.reshape(-1, self.most).to(self.rows.device)
        captions = [row[row >= 0] for row in step.world.gather(own)]  # of all processes: negatives for one another
        said, columns = torch.unique(torch.cat(captions or [own.new_zeros(1)]), return_inverse=True)
        text = TextRows(rows_SD=self.rows[said], counts=(1,) * len(said))
        scored: list[ScoredMasks] = model(batch.images_B3HW, read, text, all_layers=True)
        objects = [MaskTargets(labels_N=one.labels_N * 0, masks_NHW=one.masks_NHW) for one in batch.targets]
        terms = mask_terms(self.loss, scored, batch, objects, step, self.name_of)
        nouns = torch.split(columns, list(map(len, captions))) if captions else ()
        grounded = [self._ground(one.names_BQK.float()[kept], nouns, step) for one in scored]
        return {**terms, "caption": self.weight * torch.stack(grounded).sum() / step.totals["captions"].clamp(min=1)}

    def _ground(self, names_BQS: Tensor, nouns: Sequence[Tensor], step: Step) -> Tensor:
        """The terms of this process's pictures among those of all."""
        if not nouns:
            return names_BQS.sum() * 0.0
        counts = step.world.gather(torch.tensor([len(names_BQS)], device=names_BQS.device))
        first = int(counts[: step.world.rank].sum())
        own = torch.arange(first, first + len(names_BQS), device=names_BQS.device)
        return grounding_loss(step.world.gather(caption_similarity(names_BQS, nouns)), own)

    def draw(self, name: str, step: Step) -> list[int]:
        """Nouns of one caption of a picture, as rows of all nouns; chance follows from seed, step and picture."""
        captions = self.nouns[name]
        if not captions:
            return []
        chance = random.Random(int(torch.randint(2**62, (), generator=step.generator("caption", name))))
        nouns = chance.choice(captions)
        kept = nouns if len(nouns) <= self.most else chance.sample(nouns, self.most)
        return [self.place[noun] for noun in kept]

    def identity(self) -> Mapping[str, str]:
        """The captions' nouns."""
        said = (f"{name}: {nouns}" for name, captions in sorted(self.nouns.items()) for nouns in captions)
        return {"nouns of captions": digest_of(said)}


SUPERVISIONS: Final[Mapping[str, Callable[[PanopticTrainConfig, DenseCLIP, PanopticFile], MaskSupervision]]] = {
    "label": LabelSupervision,
    "caption": CaptionSupervision,
}
"""`OdiseSettings.supervision` -> how classes are learnt; other generators learn from labels."""


def nouns_by_picture(
    images: PanopticFile, captions: Path, name_of: Callable[[str], str]
) -> dict[str, list[tuple[str, ...]]]:
    """For each picture the nouns of each of its captions that has any.

    Raises:
        ValueError: No picture has one.
    """
    held = read_captions(captions)
    found = {
        name_of(str(path)): [nouns for one in held.get(row.image.id, []) if (nouns := nouns_of(one))]
        for row, path in zip(images.rows, images.paths, strict=True)
    }
    if not any(found.values()):
        raise ValueError(
            f"{captions} has no caption with a known noun for any of the {len(found)} pictures; are their ids the same?"
        )
    return found


def mask_terms(
    loss: MaskClassificationLoss,
    scored: Sequence[ScoredMasks],
    batch: MaskBatch,
    targets: Sequence[MaskTargets],
    step: Step,
    name_of: Callable[[str], str],
) -> dict[str, Tensor]:
    """Class, mask and dice over all sets; each picture draws points of its own."""
    generators = [step.generator("points", name_of(name)) for name in batch.names]
    with torch.autocast(batch.images_B3HW.device.type, enabled=False):
        return loss.shares([one.predictions for one in scored], targets, generators=generators, totals=step.totals)


def names_below(folder: Path) -> Callable[[str], str]:
    """A picture's name below its folder: chance and identity hold wherever the folder lies."""
    return lambda file: Path(file).relative_to(folder).as_posix()


def make_loss(settings: MaskLossSettings) -> MaskClassificationLoss:
    """The loss of the settings."""
    weights = TermWeights(classes=settings.class_weight, mask=settings.mask_weight, dice=settings.dice_weight)
    return MaskClassificationLoss(weights=weights, no_object=settings.no_object, num_points=settings.num_points)
