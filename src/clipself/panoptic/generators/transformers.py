"""Mask2Former and MaskFormer of the transformers library as mask generators."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor

from clipself.ops.pixels import IMAGENET_MEAN, IMAGENET_STD, standardised_planes
from clipself.panoptic.generators.mask_set import MaskSet
from clipself.text.synonyms import split_synonyms

SHORTEST, LONGEST = 800, 1333
STEP: Final = 32
"""Sides of the input are multiples of this."""


class TransformersMasks:
    """A `Mask2FormerForUniversalSegmentation` or `MaskFormerForInstanceSegmentation`.

    The published preprocessing pads to multiples of 32; here the picture is resized to them instead, so that masks
    cover it exactly.

    Args:
        model: The model.
        shortest: Shortest side of the input in pixels, before rounding.
        longest: Bound of the longest side.
        mean: RGB mean for pixels in [0, 1].
        std: RGB standard deviation.
    """

    def __init__(
        self,
        model: Any,
        *,
        shortest: int = SHORTEST,
        longest: int = LONGEST,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        self.model = model.eval()
        self.shortest, self.longest = shortest, longest
        self.mean, self.std = mean, std
        labels = model.config.id2label
        self.trained_names = tuple(str(labels[place]) for place in sorted(labels))
        self._column = {
            name.lower(): place for place, label in enumerate(self.trained_names) for name in split_synonyms(label)
        }

    @torch.no_grad()
    def __call__(self, picture: Image.Image, *, file: str, names: Sequence[str]) -> MaskSet:
        """Predicts masks; class scores come along only where the model was trained on every name."""
        images = self._pixels(picture)[None].to(self.model.device)
        out = self.model(pixel_values=images)
        return self._score(out.masks_queries_logits[0].float(), out.class_queries_logits[0].float(), names)

    def _score(self, masks_QYX: Tensor, logits_QL: Tensor, names: Sequence[str]) -> MaskSet:
        columns = [self._find(name) for name in names]
        known = [column for column in columns if column is not None]
        return MaskSet(
            masks_QYX=masks_QYX,
            void_Q=logits_QL.softmax(-1)[:, -1],
            logits_QK=logits_QL[:, known] if len(known) == len(columns) else None,
            rescore=partial(self._score, masks_QYX, logits_QL),
        )

    def _find(self, name: str) -> int | None:
        places = [self._column[one.lower()] for one in split_synonyms(name) if one.lower() in self._column]
        return places[0] if places else None

    def _pixels(self, picture: Image.Image) -> Tensor:
        scale = min(self.shortest / min(picture.size), self.longest / max(picture.size))
        width, height = (max(1, round(side * scale / STEP)) * STEP for side in picture.size)
        resized = picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
        return standardised_planes(resized, mean=self.mean, std=self.std)


def load_transformers_masks(checkpoint: str, *, device: str | torch.device = "cpu") -> TransformersMasks:
    """Loads a checkpoint by its hub name or local folder, such as "facebook/mask2former-swin-large-coco-panoptic".

    Args:
        checkpoint: Hub name or folder.
        device: Where it goes.

    Raises:
        ImportError: transformers is not installed.
        ValueError: The checkpoint cannot be read, or is not of these two families.
    """
    try:
        from transformers import AutoConfig, Mask2FormerForUniversalSegmentation, MaskFormerForInstanceSegmentation
    except ImportError as error:
        raise ImportError("masks from transformers need the extra: pip install 'clipself[transformers]'") from error
    classes: dict[str, Any] = {
        "mask2former": Mask2FormerForUniversalSegmentation,
        "maskformer": MaskFormerForInstanceSegmentation,
    }
    try:
        kind = AutoConfig.from_pretrained(checkpoint).model_type
    except (OSError, ValueError) as error:
        raise ValueError(
            f"transformers finds no model at {checkpoint!r} ({error}); pass a folder or a hub name that is reachable"
        ) from error
    if kind not in classes:
        raise ValueError(f"{checkpoint} is a {kind}; masks come from one of {sorted(classes)}")
    model = classes[kind].from_pretrained(checkpoint).to(device)
    return TransformersMasks(model, **_preprocessing(checkpoint))


def _preprocessing(checkpoint: str) -> dict[str, Any]:
    """Size and normalisation that the checkpoint states, or the published ones."""
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(checkpoint)
    except (OSError, ValueError, ImportError):
        return {}
    size = dict(processor.size)
    found = {"shortest": size.get("shortest_edge"), "longest": size.get("longest_edge")}
    found |= {"mean": processor.image_mean, "std": processor.image_std}
    return {name: value for name, value in found.items() if value is not None}
