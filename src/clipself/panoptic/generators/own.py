"""Our own mask generators: a pyramid of frozen features, and the decoders and heads of a published system on it."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.head_folder import HeadKind, load_heads, save_heads
from clipself.backbones.text import embed_names
from clipself.choices import pick
from clipself.ops.patches import fit_longest, fit_shortest
from clipself.panoptic.generators.features import Features, open_features
from clipself.panoptic.generators.learned import LEARNED
from clipself.panoptic.generators.mask_heads import FoundMasks, MaskHeads, ScoredMasks
from clipself.panoptic.generators.mask_set import MaskSet
from clipself.panoptic.settings import MaskGeneratorSettings
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


class MaskModel(nn.Module):
    """Pyramid and heads: everything that learns. What they stand on stays outside, frozen.

    Args:
        config: Which heads, and their shape.
        pyramid: Of what the decoders stand on.
        text_dim: Width of the CLIP's joint space.
    """

    def __init__(self, config: MaskGeneratorSettings, *, pyramid: Any, text_dim: int) -> None:
        super().__init__()
        self.pyramid = pyramid
        row = pick(LEARNED, config.method, what="mask generator that learns")
        self.heads: Any = row.heads(config, in_channels=self.pyramid.widths, text_dim=text_dim)

    def forward(
        self, images_B3HW: Tensor, taps: Sequence[Tensor], text: TextRows, *, all_layers: bool = False
    ) -> list[ScoredMasks]:
        """Normalised images, their frozen taps and the names -> scored masks, the last set the result."""
        heads: MaskHeads = self.heads
        return [
            heads.score(found, text) for found in heads.look(self.pyramid(taps, images_B3HW), all_layers=all_layers)
        ]

    def find(self, images_B3HW: Tensor, taps: Sequence[Tensor]) -> FoundMasks:
        """Normalised images and their frozen taps -> masks, which `heads.score` compares with any names."""
        heads: MaskHeads = self.heads
        return heads.look(self.pyramid(taps, images_B3HW))[-1]


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
        config: MaskGeneratorSettings,
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
        return self._score(self.model.find(image, self.features.read(image)), names)

    @torch.no_grad()
    def _score(self, found: FoundMasks, names: Sequence[str]) -> MaskSet:
        masks_QYX, rescore = found.masks_BQYX[0], partial(self._score, found)
        if not names:  # a picture may be looked at before it is asked anything
            return MaskSet(masks_QYX=masks_QYX, void_Q=masks_QYX.new_zeros(len(masks_QYX)), rescore=rescore)
        scored: ScoredMasks = self.model.heads.score(found, self._rows(names))
        return MaskSet(
            masks_QYX=masks_QYX, logits_QK=scored.names_BQK[0].float(), void_Q=scored.void_BQ[0], rescore=rescore
        )

    def fit(self, picture: Image.Image) -> tuple[int, int]:
        """Height and width at which a picture goes in: no padding, the aspect kept up to one step of the features."""
        size, config = (picture.height, picture.width), self.config
        if config.shortest is not None:
            return fit_shortest(size, shortest=config.shortest, longest=config.longest, patch=self.features.step)
        return fit_longest(size, longest=self.config.image_size, patch=self.features.step)

    def _rows(self, names: Sequence[str]) -> TextRows:
        """Embedded names; kept for as long as the same names are asked for."""
        if self._text is None or self._text[0] != tuple(names):
            rows = embed_names(self.clip, names, templates=self.config.templates, wording="short")
            self._text = (tuple(names), rows)
        return self._text[1]


def build_mask_model(
    config: MaskGeneratorSettings, clip: DenseCLIP, *, features: Features | None = None, start: bool = False
) -> MaskModel:
    """A new model for a CLIP and what the decoders stand on.

    Args:
        config: Which generator, and its shape.
        clip: Whose text names its masks.
        features: What the decoders stand on; opened by the settings if not given.
        start: Whether it will be trained, so that its heads take from the CLIP what they begin with.
    """
    features = features or open_features(config, clip)
    model = MaskModel(config, pyramid=features.new_pyramid(config.channels), text_dim=clip.embed_dim)
    begin = LEARNED[config.method].start
    if start and begin is not None:
        begin(model.heads, clip)
    return model


def save_own_masks(
    folder: str | Path,
    model: MaskModel,
    config: MaskGeneratorSettings,
    *,
    clip: DenseCLIP,
    clip_source: Mapping[str, str | None],
    trained_names: Sequence[str],
    features_digest: str = "",
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
        features_digest: `Features.digest` of what it stands on.
        card: What else the reader should know.

    Returns:
        The folder.

    Raises:
        ValueError: A weight is not finite.
        OSError: The disk is full or the folder cannot be written.
    """
    config = config.with_folder(lambda name: _seen_from(Path(folder), name))
    return save_heads(
        folder, MASK_MODEL, model.state_dict(), model=str(clip_source["model"]),
        pretrained=clip_source.get("pretrained"), text_from=clip_source.get("text_from"),
        digest=clip.weights_hash("image"), settings=config, names=trained_names,
        card={**({"features_digest": features_digest} if features_digest else {}), **(card or {})},
    )  # fmt: skip


def load_own_masks(folder: str | Path, *, device: str | torch.device = "cpu") -> OwnMasks:
    """Loads a trained mask model with its CLIP, strictly.

    Raises:
        FileNotFoundError: The folder holds no mask model, or its CLIP is missing.
        ValueError: CLIP or frozen features are not those it was trained on, or a tensor does not fit.
    """
    heads = load_heads(folder, MASK_MODEL, device=device)
    config, names = heads.settings(heads.build(lambda: kind_of_settings(heads.card["settings"]))), heads.names()
    config = config.with_folder(lambda name: _found_from(Path(folder), name))
    heads.build(lambda: load_templates(config.templates))
    try:  # frozen features are larger than what is saved, so that no budget holds for them
        frozen = None if config.features == "clip" else open_features(config, heads.clip)
    except ValueError as error:
        raise ValueError(f"{heads.card_path}: {error}") from error
    features = frozen or heads.build(lambda: open_features(config, heads.clip))
    if features.digest and heads.card.get("features_digest", features.digest) != features.digest:
        raise ValueError(
            f"{heads.card_path}: {config.features} has other weights than in the training (digest {features.digest}, "
            f"expected {heads.card['features_digest']}); put that model back"
        )
    model = heads.build(lambda: build_mask_model(config, heads.clip, features=features))
    heads.fill(model)
    return OwnMasks(model, heads.clip, config, trained_names=names, features=features)


def kind_of_settings(held: Mapping[str, Any]) -> type[MaskGeneratorSettings]:
    """The class of settings in a card; cards of earlier versions, which name no method, are FC-CLIP's.

    Raises:
        ValueError: There is no such generator.
    """
    return pick(LEARNED, held.get("method", "fcclip"), what="mask generator that learns").settings


def _seen_from(folder: Path, name: str) -> str:
    """A folder of frozen features as seen from that of the heads, as the CLIP's is; a hub name stays."""
    path = Path(name)
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix() if path.is_dir() else name


def _found_from(folder: Path, name: str) -> str:
    return str(folder / name) if (folder / name).is_dir() else name
