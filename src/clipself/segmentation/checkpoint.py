"""A trained segmenter to a folder and back, without the CLIP it was trained on."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from safetensors.torch import load_file, save_file
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.stands_on import find_clip, name_clip
from clipself.data.sources import read_json
from clipself.files import write_atomically, write_json
from clipself.segmentation.config import SegmentationTrainConfig
from clipself.segmentation.segmenters import Model, rebuild_model

WEIGHTS: Final = "segmenter.safetensors"
CARD: Final = "segmenter.json"


def own_state(model: Model) -> dict[str, Tensor]:
    """What a folder keeps: all weights but those of CLIP that do not learn."""
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if name in learning or not name.startswith("clip.")
    }


def save_segmenter(
    model: Model, folder: str | Path, *, config: SegmentationTrainConfig, card: Mapping[str, Any]
) -> Path:
    """Writes `segmenter.safetensors` and `segmenter.json`.

    Args:
        model: The model.
        folder: Made when missing.
        config: Settings of its run.
        card: More to keep: class names, the digest of CLIP's weights.

    Raises:
        OSError: The disk is full or the folder cannot be written.
    """
    folder = Path(folder)
    write_atomically(folder / WEIGHTS, lambda part: save_file(own_state(model), part))
    held = {
        "format": "clipself segmenter 1",
        "method": config.method,
        **name_clip(config.model, config.pretrained, folder=folder),
        "train_clip": config.train_clip,
        "crop": config.crop,
        "settings": asdict(model.settings),
        **card,
    }
    write_json(folder / CARD, held)
    return folder


def load_segmenter(folder: str | Path, *, clip: DenseCLIP | None = None, device: Any = "cpu") -> tuple[Model, Any]:
    """Builds a saved model with its CLIP, in evaluation mode.

    Args:
        folder: Written by `save_segmenter`.
        clip: The CLIP where it is loaded already; else the one named in the folder is loaded.
        device: Where all of it goes.

    Returns:
        The model, and what the folder says about it.

    Raises:
        FileNotFoundError: There is no model in the folder, or its CLIP has moved.
        ValueError: The weights or the CLIP are not those it was trained with.
    """
    folder = Path(folder)
    if not (folder / CARD).is_file() or not (folder / WEIGHTS).is_file():
        raise FileNotFoundError(f"no {CARD} with {WEIGHTS} in {folder}; pass a folder that `segment train` has written")
    card = read_json(folder / CARD)
    clip = find_clip(card, folder=folder, digest=card["clip_hash"], clip=clip)
    model = rebuild_model(card, clip)
    state = load_file(folder / WEIGHTS)
    own = own_state(model)
    misfit = sorted(own.keys() ^ state.keys()) or [n for n in own if own[n].shape != state[n].shape]
    if misfit:
        raise ValueError(f"{folder / WEIGHTS} does not fit its own settings: {misfit[:3]}; was it copied in part?")
    model.load_state_dict({**model.state_dict(), **state}, strict=True)
    return model.to(device).eval(), card
