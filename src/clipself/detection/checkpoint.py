"""A trained detector on disk: a folder with its learned weights and what is needed to build the rest."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from safetensors.torch import load_file, save_file
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.stands_on import find_clip, name_clip
from clipself.detection.detectors.table import build_detector, make_settings
from clipself.detection.detectors.two_stage.model import TwoStage
from clipself.detection.vocabulary import make_vocabulary
from clipself.files import write_atomically, write_json

WEIGHTS: Final = "detector.safetensors"
CARD: Final = "detector.json"
FROZEN: Final = "backbone."
"""Prefix of what is not saved: the CLIP is named and checked by its digest instead."""


def learned_state(detector: TwoStage) -> dict[str, Tensor]:
    """Weights and running statistics without the frozen backbone."""
    return {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in detector.state_dict().items()
        if not name.startswith(FROZEN)
    }


def save_detector(
    detector: TwoStage, folder: str | Path, *, model: str, pretrained: str | None = None, card: Mapping[str, Any]
) -> Path:
    """Writes `detector.safetensors` and `detector.json`.

    Args:
        detector: The detector.
        folder: Made when missing.
        model: What `load_clip` is given for the backbone.
        pretrained: And its tag or file.
        card: More to keep in the JSON.

    Raises:
        OSError: The disk is full or the folder cannot be written.
    """
    folder = Path(folder)
    write_atomically(folder / WEIGHTS, lambda part: save_file(learned_state(detector), part))
    vocabulary = detector.vocabulary
    write_json(
        folder / CARD,
        {
            "format": "clipself detector 1",
            "settings": detector.settings.to_json(),
            **name_clip(model, pretrained, folder=folder),
            "backbone_hash": detector.backbone.clip.weights_hash("image"),
            "names": list(vocabulary.names),
            "base": [name for name, base in zip(vocabulary.names, vocabulary.base_K.tolist(), strict=False) if base],
            **card,
        },
    )
    return folder


def load_detector(folder: str | Path, *, clip: DenseCLIP | None = None, device: str = "cpu") -> TwoStage:
    """Builds a saved detector with its backbone, in evaluation mode.

    Args:
        folder: Written by `save_detector`.
        clip: The backbone where it is loaded already; else the one named in the folder is loaded.
        device: Where all of it goes.

    Raises:
        FileNotFoundError: There is no detector in the folder, or its backbone has moved.
        ValueError: The weights or the backbone are not those it was trained with.
    """
    folder = Path(folder)
    if not (folder / CARD).is_file() or not (folder / WEIGHTS).is_file():
        raise FileNotFoundError(f"no {CARD} with {WEIGHTS} in {folder}; pass the folder that `detect train` wrote")
    from clipself.data.sources import read_json

    card = read_json(folder / CARD)
    settings = make_settings(**card["settings"])
    clip = find_clip(card, folder=folder, digest=card["backbone_hash"], part="image", clip=clip, device=device)
    vocabulary = make_vocabulary(clip, card["names"], base=card["base"], templates=settings.templates)
    detector = build_detector(clip, settings, vocabulary)
    load_learned(detector, load_file(folder / WEIGHTS), source=str(folder / WEIGHTS))
    return detector.eval()


def load_learned(detector: TwoStage, state: Mapping[str, Tensor], *, source: str) -> None:
    """Loads all learned weights or none.

    Raises:
        ValueError: Tensors are missing, left over or of another shape.
    """
    own = {name: tensor for name, tensor in detector.state_dict().items() if not name.startswith(FROZEN)}
    missing, left_over = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    reshaped = sorted(name for name in own.keys() & state.keys() if own[name].shape != state[name].shape)
    if missing or left_over or reshaped:
        shapes = [f"{name} {tuple(state[name].shape)} for {tuple(own[name].shape)}" for name in reshaped[:3]]
        raise ValueError(
            f"{source} does not fit this detector: missing {missing[:3]}, left over {left_over[:3]}, of another shape "
            f"{shapes}; use the settings that it was trained with"
        )
    detector.load_state_dict({**detector.state_dict(), **state}, strict=True)
