"""A model's folder, open_clip's layout or transformers': its configuration checked, its weights read."""

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import open_clip
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor

from clipself.backbones.activation import hub_activation
from clipself.backbones.dense_clip import TowerIdentity
from clipself.backbones.layouts import LAYOUTS, layout_of, without_wrappers
from clipself.backbones.model_config import build_tokenizer, named_normalisation
from clipself.backbones.siglip_names import named_siglip
from clipself.backbones.sizes import config_of_tensors
from clipself.backbones.tips_names import temperature_of, tips_config
from clipself.backbones.weights import read_state_dict, weights_in
from clipself.cards import read_card
from clipself.files import read_text

CONFIG_NAME: Final = "open_clip_config.json"
WEIGHTS_NAME: Final = "open_clip_model.safetensors"
HUB_CONFIG: Final = "config.json"
"""transformers' name of a model's configuration."""
HUB_MODELS: Final = {"clip": "transformers' CLIPModel", "siglip": "transformers' SigLIP", "tipsv2": "TIPSv2"}
"""transformers' `model_type` -> row of `LAYOUTS`."""
CARD_NAME: Final = "model_card.json"
VOCABULARY: Final = 49408
"""Tokens of CLIP's byte pairs."""
COUNTS: Final = frozenset(
    {"embed_dim", "image_size", "patch_size", "layers", "width", "heads", "head_width", "vocab_size", "context_length"}
)
"""What a configuration counts; ResNets and images that are not square have lists of such numbers."""
TOKENIZERS: Final = ("CLIPTokenizer", "CLIPTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")
"""transformers' names of what may hold CLIP's byte pairs."""
ROUNDED: Final = 1e-3
"""How far 255 times a factor may lie from 1 where 1 / 255 is meant."""
LARGEST: Final = 10**6
LONGEST_TEXT: Final = 4096
"""Bounds of what a configuration may say; far beyond any model."""


def folder_kind(folder: Path) -> str | None:
    """The file that makes a folder a model: open_clip's configuration, transformers', or None."""
    return next((name for name in (CONFIG_NAME, HUB_CONFIG) if (folder / name).is_file()), None)


def is_model_folder(folder: Path) -> bool:
    """Whether `load_clip` takes a folder for a model."""
    return folder_kind(folder) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFolder:
    """What a folder says of its model, checked, and its weights.

    Attributes:
        config_path: Its configuration.
        weights_path: Its weights.
        name: What the model is called.
        model_cfg: open_clip's configuration.
        state: Tensors by the names in the file.
        identity: Releases of the towers.
        mean: Of the input normalisation.
        std: Of the input normalisation.
    """

    config_path: Path
    weights_path: Path
    name: str
    model_cfg: dict[str, Any]
    state: dict[str, Tensor]
    identity: TowerIdentity
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def read_model_folder(folder: Path, *, name: str) -> ModelFolder:
    """Reads a model's folder, open_clip's layout or transformers'.

    Raises:
        FileNotFoundError: It lacks the weights.
        ValueError: A file is damaged, or describes another kind of model.
    """
    if folder_kind(folder) == HUB_CONFIG:
        return read_hub_folder(folder, name=name)
    path = folder / CONFIG_NAME
    held = read_card(path)
    model_cfg = _checked(held.get("model_cfg"), path)
    weights = _weights_of(folder, path)
    card = read_card(folder / CARD_NAME) if (folder / CARD_NAME).is_file() else {}
    for key in ("name", "image_tower", "text_tower"):
        if not isinstance(card.get(key), str | None):
            raise ValueError(f"{folder / CARD_NAME}: {key} is {repr(card[key])[:60]}, expected a text")
    named = card.get("name") or name
    release = f"{named}@{folder.name}"
    mean, std = normalisation(held.get("preprocess_cfg") or {}, path, keys=("mean", "std"))
    _check_shares(mean, std, path)
    return ModelFolder(
        config_path=path,
        weights_path=weights,
        name=named,
        model_cfg=model_cfg,
        state=read_state_dict(weights),
        identity=TowerIdentity(image=card.get("image_tower") or release, text=card.get("text_tower", release)),
        mean=mean,
        std=std,
    )


def _weights_of(folder: Path, config: Path) -> Path:
    try:
        return weights_in(folder)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{folder} holds {config.name} but no {WEIGHTS_NAME}; copy the weights there too"
        ) from None


def _checked(model_cfg: Any, path: Path) -> dict[str, Any]:
    if not isinstance(model_cfg, dict):
        raise ValueError(f"{path}: model_cfg is {repr(model_cfg)[:60]}, expected a table; was it edited?")
    for key in ("vision_cfg", "text_cfg"):
        if not isinstance(model_cfg.get(key), dict):
            raise ValueError(f"{path}: {key} is {repr(model_cfg.get(key))[:60]}, expected a table; was it edited?")
    for where in (model_cfg, model_cfg["vision_cfg"], model_cfg["text_cfg"]):
        for key, value in where.items():
            if isinstance(value, int | float) and not (math.isfinite(value) and abs(value) <= LARGEST):
                raise ValueError(f"{path}: {key} is {value}, far beyond any model")
            if key == "patch_size" and value is None and isinstance(where.get("layers"), list):
                continue  # open_clip's own configurations of ResNets
            counts = value if isinstance(value, list) else [value]
            if key in COUNTS and not all(type(count) is int and count > 0 for count in counts):
                raise ValueError(f"{path}: {key} is {repr(value)[:60]}, expected a whole number above 0")
    vision = model_cfg["vision_cfg"]
    width, head_width = vision.get("width"), vision.get("head_width")
    if isinstance(width, int) and isinstance(head_width, int):
        width *= 32 if isinstance(vision.get("layers"), list) else 1  # a ResNet pools what has grown so wide
        if head_width > width:
            raise ValueError(f"{path}: head_width is {head_width}, wider than the {width} channels that heads share")
    length = model_cfg["text_cfg"].get("context_length", 77)
    if length not in range(LONGEST_TEXT + 1):
        raise ValueError(f"{path}: context_length is {repr(length)[:60]}, no text's length")
    return model_cfg


def normalisation(
    held: Any, path: Path, *, keys: tuple[str, str]
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and deviation that a file states, CLIP's where it states none.

    Raises:
        ValueError: They are no three numbers each, or a deviation is not positive.
    """
    if not isinstance(held, Mapping):
        raise ValueError(f"{path}: the preprocessing is {repr(held)[:60]}, expected a table; was it edited?")
    found = []
    for key, default in zip(keys, (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD), strict=True):
        numbers: Any = held.get(key) if held.get(key) is not None else default
        plain = isinstance(numbers, list | tuple) and len(numbers) == 3
        if not plain or not all(isinstance(n, int | float) and 0 <= n < LARGEST and math.isfinite(n) for n in numbers):
            raise ValueError(f"{path}: {key} is {repr(numbers)[:60]}, expected three numbers")
        found.append((float(numbers[0]), float(numbers[1]), float(numbers[2])))
    if min(found[1]) <= 0:
        raise ValueError(f"{path}: {keys[1]} is {list(found[1])}, expected numbers above 0")
    return found[0], found[1]


def read_hub_folder(folder: Path, *, name: str) -> ModelFolder:
    """Reads a folder of transformers' CLIPModel or a TIPSv2, of any sizes, or of SiglipModel, of open_clip's.

    Raises:
        FileNotFoundError: It lacks the weights.
        ValueError: It is another model of transformers, or one that open_clip's classes cannot compute.
    """
    path = folder / HUB_CONFIG
    held = read_card(path)
    kind = held.get("model_type")
    if kind not in HUB_MODELS:
        raise ValueError(
            f"{path} describes a {kind!r:.40} model of transformers; of those, CLIPModel, SiglipModel and TIPSv2 are "
            "read here"
        )
    weights = weights_in(folder)
    state, _ = without_wrappers(read_state_dict(weights))
    layout = layout_of(state)
    if layout is None or layout is not LAYOUTS[HUB_MODELS[kind]]:
        raise ValueError(f"{weights} does not hold the names of {HUB_MODELS[kind]}, which {path} says it is")
    state = layout.convert(state)
    release = f"{Path(name).name}@transformers"
    if kind == "siglip":
        size = (held.get("vision_config") or {}).get("image_size", 224)
        named = named_siglip(state, image_size=size, source=str(weights))
        config = dict(deepcopy(open_clip.get_model_config(named)))
        usual = named_normalisation(named)
    elif kind == "tipsv2":
        named, config = Path(name).name, tips_config(held, state, source=str(weights))
        state = {"logit_scale": temperature_of(held), **state}
        usual = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    else:
        named, config = Path(name).name, _clip_config(held, state, path=path, weights=weights)
        usual = (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    mean, std = _hub_normalisation(folder, usual)
    return ModelFolder(
        config_path=path, weights_path=weights, name=named, model_cfg=config, state=state,
        identity=TowerIdentity(image=release, text=release), mean=mean, std=std,
    )  # fmt: skip


def _hub_normalisation(folder: Path, usual: tuple[Any, Any]) -> tuple[Any, Any]:
    """Mean and deviation for pixels in [0, 1], of whatever range transformers' preprocessing brings them to first.

    Raises:
        ValueError: What is stated is none.
    """
    path = folder / "preprocessor_config.json"
    joint = folder / "processor_config.json"  # where transformers 5 writes the preprocessing of a whole processor
    stated: Any = read_card(path) if path.is_file() else {}
    if not path.is_file() and joint.is_file():
        path, stated = joint, read_card(joint).get("image_processor") or {}
    if not isinstance(stated, Mapping):
        raise ValueError(f"{path}: image_processor is {stated!r:.60}, expected a table; was it edited?")
    pixels = {"image_mean": usual[0], "image_std": usual[1], **{key: stated[key] for key in stated if stated[key]}}
    if stated.get("do_normalize") is False:
        pixels = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    mean, std = normalisation(pixels, path, keys=("image_mean", "image_std"))
    # One that rescales nothing was handed pixels in [0, 1].
    factor: Any = 1 / 255 if stated.get("do_rescale") is False else stated.get("rescale_factor", 1 / 255)
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < LARGEST:
        raise ValueError(f"{path}: rescale_factor is {factor!r:.60}, expected a number above 0")
    brightest = 1.0 if abs(255 * factor - 1) < ROUNDED else 255 * factor
    mean, std = ((a / brightest, b / brightest, c / brightest) for a, b, c in (mean, std))
    _check_shares(mean, std, path)
    return mean, std


def _check_shares(mean: tuple[float, ...], std: tuple[float, ...], path: Path) -> None:
    """Refuses a normalisation of bytes where one of pixels in [0, 1] is meant: all pictures would be one.

    Raises:
        ValueError: A number lies beyond what such pixels can have.
    """
    if max(*mean, *std) > 1:
        raise ValueError(f"{path}: mean {list(mean)} and std {list(std)} are not of pixels in [0, 1]; divide by 255")


def _check_beside(folder: Path) -> None:
    """Refuses what changes a model of transformers' and is not read here.

    Raises:
        ValueError: An adapter lies beside its weights, or the tokenizer of another model.
    """
    if (folder / "adapter_config.json").is_file():
        raise ValueError(
            f"{folder} holds an adapter (adapter_config.json), which is not applied here; save the model after "
            "merge_and_unload() into a folder of its own"
        )
    path = folder / "tokenizer_config.json"
    kind = read_card(path).get("tokenizer_class") if path.is_file() else None
    if kind is not None and kind not in TOKENIZERS:
        raise ValueError(f"{path}: its tokenizer is a {kind!r:.60}, CLIP's own byte pairs are read; another is not")
    merges = folder / "merges.txt"
    if merges.is_file():
        own = [tuple(line.split()) for line in read_text(merges).splitlines() if line and line[0] != "#"]
        clips: Any = build_tokenizer({}, folder=None)
        if own[:1000] != list(clips.bpe_ranks)[:1000]:
            raise ValueError(f"{merges} is of another tokenizer than CLIP's own byte pairs; it is not read")


def _clip_config(held: Mapping[str, Any], state: Mapping[str, Tensor], *, path: Path, weights: Path) -> dict[str, Any]:
    """open_clip's configuration of a CLIPModel."""
    stated = {key: held.get(key) for key in ("vision_config", "text_config")}
    sides = {key: side if isinstance(side, dict) else {} for key, side in stated.items()}
    for side in sides.values():
        if side.get("layer_norm_eps", 1e-5) != 1e-5:
            raise ValueError(f"{path}: layer_norm_eps is {side['layer_norm_eps']!r:.40}, open_clip's towers have 1e-5")
    _check_beside(path.parent)
    config = config_of_tensors(
        state,
        source=str(weights),
        quick_gelu=hub_activation(held, path, default="quick_gelu") == "quick_gelu",
        heads=_heads(sides["vision_config"], path, usual=12),
        text_heads=_heads(sides["text_config"], path, usual=8),
    )
    checked = (("vision_config", "visual.class_embedding", 12), ("text_config", "ln_final.weight", 8))
    for key, width, usual in checked:
        heads = _heads(sides[key], path, usual=usual)
        if width in state and len(state[width]) % heads:
            raise ValueError(
                f"{path}: the {len(state[width])} channels of {key} do not divide among {heads} heads; state its "
                "num_attention_heads"
            )
    if config["text_cfg"]["vocab_size"] != VOCABULARY:
        raise ValueError(
            f"{weights} embeds {config['text_cfg']['vocab_size']} tokens, CLIP's own byte pairs are {VOCABULARY}; "
            "another tokenizer is not read"
        )
    return config


def _heads(side: Mapping[str, Any], path: Path, *, usual: int) -> int:
    """Attention heads of a side; transformers has its own number for one that states none, whatever its width."""
    heads: Any = side.get("num_attention_heads")
    if heads is not None and heads not in range(1, 1025):
        raise ValueError(f"{path}: num_attention_heads is {repr(heads)[:40]}, expected a number of heads")
    return usual if heads is None else int(heads)
