"""Our own mask generator: FC-CLIP's decoders on a frozen CLIP, whose taps are rescaled to a pyramid."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.head_folder import HeadKind, load_heads, save_heads
from clipself.backbones.text import embed_names
from clipself.choices import pick
from clipself.layers.pyramid import picture_pyramid_of
from clipself.losses.mask_classification import MaskPredictions
from clipself.ops.patches import fit_longest
from clipself.panoptic.generators.diffusion import load_diffusion
from clipself.panoptic.generators.fcclip import FcClipHeads
from clipself.panoptic.generators.mask_set import MaskSet
from clipself.panoptic.generators.odise.backbone import DiffusionFeatures
from clipself.panoptic.settings import OwnMasksSettings
from clipself.structures import TextRows
from clipself.text.templates import load_templates

MASK_MODEL: Final = HeadKind(
    name="mask model",
    stem="mask_model",
    written_by="`panoptic train`",
    old_keys={
        "clip.model": "model",
        "clip.pretrained": "pretrained",
        "clip.image_weights": "clip_digest",
        "settings": "training",
        "shape": "settings",
        "trained_names": "names",
    },
)
STEP: Final = 2
"""Sides of the input are multiples of this many patches, so that the coarsest level is half a grid."""


class Features(Protocol):
    """What the decoders stand on: frozen, and outside of what is saved."""

    @property
    def step(self) -> int:
        """Sides of the input are multiples of this, in pixels."""

    def read(self, images_B3HW: Tensor) -> list[Tensor]:
        """Normalised images -> what a pyramid is made of."""

    def new_pyramid(self, channels: int) -> nn.Module:
        """The part that learns to make one, with its `widths`; called with what was read and the images."""


class ClipFeatures:
    """Taps of the CLIP.

    Args:
        clip: Frozen.
        taps: Blocks or stages that are read.
    """

    def __init__(self, clip: DenseCLIP, taps: Sequence[int]) -> None:
        self.clip, self.taps, self.step = clip, tuple(taps), STEP * clip.patch_size

    def read(self, images_B3HW: Tensor) -> list[Tensor]:
        """Maps (B, C, Y, X) of the taps."""
        return list(self.clip.taps(images_B3HW, self.taps, readout="qk"))

    def new_pyramid(self, channels: int) -> nn.Module:
        """Stages as they are, or taps of one stride rescaled."""
        stages = [self.clip.trunk.stages[index] for index in self.taps]
        return picture_pyramid_of([(stage.width, stage.stride) for stage in stages], channels=channels)


def _open_diffusion(name: str, clip: DenseCLIP) -> DiffusionFeatures:
    return DiffusionFeatures(load_diffusion(name, device=clip.device), clip)


FEATURES: Final[Mapping[str, Callable[[str, DenseCLIP], Features]]] = {"diffusion": _open_diffusion}
"""Kind of features beside "clip" -> how "KIND:NAME" is opened."""


def open_features(settings: OwnMasksSettings, clip: DenseCLIP) -> Features:
    """What the settings name.

    Raises:
        ValueError: There is no such kind, or the taps do not fit the CLIP.
        ImportError: An optional package is missing.
    """
    kind, _, name = settings.features.partition(":")
    if kind == "clip" and not name:
        return ClipFeatures(clip, taps_of(settings, clip))
    return pick(FEATURES, kind, what="kind of features")(name, clip)


class MaskModel(nn.Module):
    """Pyramid and heads: everything that learns. The CLIP stays outside, frozen.

    Args:
        config: Shape.
        pyramid: Of what the decoders stand on.
        embed_dim: Width of the CLIP's joint space.
    """

    def __init__(self, config: OwnMasksSettings, *, pyramid: Any, embed_dim: int) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.heads = FcClipHeads(
            in_channels=self.pyramid.widths,
            embed_dim=embed_dim,
            channels=config.channels,
            pixel_layers=config.pixel_layers,
            pixel_hidden=config.pixel_hidden,
            layers=config.layers,
            hidden=config.hidden,
            queries=config.queries,
            heads=config.heads,
        )

    def forward(
        self, images_B3HW: Tensor, taps: Sequence[Tensor], text: TextRows, *, all_layers: bool = False
    ) -> list[MaskPredictions]:
        """Normalised images, their frozen taps and the names -> predictions, the last one the result."""
        predictions: list[MaskPredictions] = self.heads(self.pyramid(taps, images_B3HW), text, all_layers=all_layers)
        return predictions

    def find(self, images_B3HW: Tensor, taps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Normalised images and their frozen taps -> masks (B, Q, Y, X) and their embeddings (B, Q, D)."""
        return self.heads.find(self.pyramid(taps, images_B3HW))


class OwnMasks:
    """A trained mask model on its CLIP, as a mask generator.

    Args:
        model: Pyramid and heads.
        clip: The frozen CLIP that they were trained on.
        config: Shape.
        trained_names: Names seen in training.
        features: What the decoders stand on; opened by the settings if not given.
    """

    def __init__(
        self,
        model: MaskModel,
        clip: DenseCLIP,
        config: OwnMasksSettings,
        *,
        trained_names: Sequence[str],
        features: Features | None = None,
    ) -> None:
        self.model, self.clip, self.config = model.to(clip.device).eval(), clip, config
        self.trained_names = tuple(trained_names)
        self.features = features or open_features(config, clip)
        self._text: tuple[tuple[str, ...], TextRows] | None = None

    @torch.no_grad()
    def __call__(self, picture: Image.Image, *, file: str, names: Sequence[str]) -> MaskSet:
        """Predicts masks with class scores of any names."""
        image = self.clip.preprocess(picture, size=self.fit(picture))[None]
        masks_1QYX, embeddings_1QD = self.model.find(image, self.features.read(image))
        return self._score(masks_1QYX[0], embeddings_1QD, names)

    @torch.no_grad()
    def _score(self, masks_QYX: Tensor, embeddings_1QD: Tensor, names: Sequence[str]) -> MaskSet:
        rescore = partial(self._score, masks_QYX, embeddings_1QD)
        if not names:  # a picture may be looked at before it is asked anything
            return MaskSet(masks_QYX=masks_QYX, void_Q=masks_QYX.new_zeros(len(masks_QYX)), rescore=rescore)
        logits_QK = self.model.heads.score(embeddings_1QD, self._rows(names))[0].float()
        void_Q = logits_QK.softmax(-1)[:, -1]
        return MaskSet(masks_QYX=masks_QYX, logits_QK=logits_QK[:, :-1], void_Q=void_Q, rescore=rescore)

    def fit(self, picture: Image.Image) -> tuple[int, int]:
        """Height and width at which a picture goes in: no padding, the aspect kept up to two patches."""
        size = (picture.height, picture.width)
        return fit_longest(size, longest=self.config.image_size, patch=self.features.step)

    def _rows(self, names: Sequence[str]) -> TextRows:
        """Embedded names; kept for as long as the same names are asked for."""
        if self._text is None or self._text[0] != tuple(names):
            rows = embed_names(self.clip, names, templates=self.config.templates, wording="short")
            self._text = (tuple(names), rows)
        return self._text[1]


def taps_of(config: OwnMasksSettings, clip: DenseCLIP) -> tuple[int, ...]:
    """The blocks that are read; of a pyramid all stages.

    Raises:
        ValueError: They do not ascend within the trunk.
    """
    depth = len(clip.trunk.stages)
    if clip.trunk.is_pyramid:
        return tuple(range(depth))
    taps = config.taps if config.taps is not None else tuple(sorted({depth // 2, max(0, depth - 2)}))
    if list(taps) != sorted(set(taps)) or not taps or not 0 <= taps[0] <= taps[-1] < depth:
        raise ValueError(f"taps={taps} must ascend within 0..{depth - 1}, the blocks of {clip.name}")
    return taps


def build_mask_model(config: OwnMasksSettings, clip: DenseCLIP, *, features: Features | None = None) -> MaskModel:
    """A new model for a CLIP and what the decoders stand on, which the settings name if it is not given."""
    features = features or open_features(config, clip)
    return MaskModel(config, pyramid=features.new_pyramid(config.channels), embed_dim=clip.embed_dim)


def save_own_masks(
    folder: str | Path,
    model: MaskModel,
    config: OwnMasksSettings,
    *,
    clip: DenseCLIP,
    clip_source: Mapping[str, str | None],
    trained_names: Sequence[str],
    card: Mapping[str, Any] | None = None,
) -> Path:
    """Writes what learnt, and which CLIP it belongs to.

    Args:
        folder: Made when missing.
        model: Pyramid and heads.
        config: Shape.
        clip: The CLIP it was trained on.
        clip_source: `model`, `pretrained` and `text_from` by which `load_clip` finds that CLIP again.
        trained_names: Names seen in training.
        card: What else the reader should know.

    Returns:
        The folder.

    Raises:
        ValueError: A weight is not finite.
        OSError: The disk is full or the folder cannot be written.
    """
    return save_heads(
        folder, MASK_MODEL, model.state_dict(), model=str(clip_source["model"]),
        pretrained=clip_source.get("pretrained"), text_from=clip_source.get("text_from"),
        digest=clip.weights_hash("image"), settings=config, names=trained_names, card=card,
    )  # fmt: skip


def load_own_masks(folder: str | Path, *, device: str | torch.device = "cpu") -> OwnMasks:
    """Loads a trained mask model with its CLIP, strictly.

    Raises:
        FileNotFoundError: The folder holds no mask model, or its CLIP is missing.
        ValueError: The CLIP's image tower is not the one it was trained on, or a tensor does not fit.
    """
    heads = load_heads(folder, MASK_MODEL, device=device)
    config, names = heads.settings(OwnMasksSettings), heads.names()
    heads.build(lambda: load_templates(config.templates))
    try:  # frozen features are larger than what is saved, so that no budget holds for them
        frozen = None if config.features == "clip" else open_features(config, heads.clip)
    except ValueError as error:
        raise ValueError(f"{heads.card_path}: {error}") from error
    features = frozen or heads.build(lambda: open_features(config, heads.clip))
    model = heads.build(lambda: build_mask_model(config, heads.clip, features=features))
    heads.fill(model)
    return OwnMasks(model, heads.clip, config, trained_names=names, features=features)
