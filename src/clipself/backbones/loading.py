"""From a name, a tag, a file or a folder to a `DenseCLIP`."""

import json
import logging
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.pretrained import download_pretrained, get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP, TowerIdentity
from clipself.backbones.fast_init import unfilled
from clipself.backbones.weights import is_openai, load_strictly, read_state_dict

log = logging.getLogger(__name__)

CONFIG_NAME: Final = "open_clip_config.json"
WEIGHTS_NAME: Final = "open_clip_model.safetensors"
PACKAGED: Final[Mapping[str, Path]] = {"clipself-mini": Path(__file__).parent / "mini"}
"""Models that ship with the package -> their export folder."""

ALIASES: Final[Mapping[str, str]] = {
    "EVA02-CLIP-B-16": "EVA02-B-16",
    "EVA02-CLIP-L-14": "EVA02-L-14",
    "EVA02-CLIP-L-14-336": "EVA02-L-14-336",
}
"""Name in the EVA-CLIP and CLIPSelf releases -> open_clip's."""


def load_clip(
    model: str | Path = "clipself-mini",
    pretrained: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    text_from: str | Path | None = None,
    ignore: Collection[str] = (),
    seed: int = 0,
) -> DenseCLIP:
    """Loads a CLIP with its dense side; every tensor strictly, no code from files.

    Args:
        model: An open_clip or EVA-CLIP name ("ViT-B-16", "EVA02-CLIP-B-16"), "clipself-mini", or an export folder that
            holds `open_clip_config.json`.
        pretrained: An open_clip tag ("openai", downloaded where the network allows), a checkpoint file, or "random".
            Not used with a folder or a packaged model.
        device: Where the model goes.
        text_from: Tag or file whose text tower is taken when the image tower comes from a file without one, or on
            purpose from another release. Only this option mixes releases.
        ignore: Names or prefixes in the file that may be left out (heads of another task).
        seed: Seed of the weights when `pretrained="random"`.

    Returns:
        The model in evaluation mode, float32.

    Raises:
        ValueError: Unknown model or tag, missing `pretrained`, a file that does not fit, or a folder without weights.
        FileNotFoundError: The file or folder does not exist.
    """
    folder = export_folder(model)
    if folder is not None:
        clip = _load_folder(folder, name=str(model), ignore=ignore)
    else:
        name = open_clip_name(str(model))
        clip = _load_named(name, pretrained, ignore=ignore, seed=seed)
    if text_from is not None:
        _take_text(clip, text_from)
    return clip.to(device).eval()


def clip_from_state_dict(
    model: str, state: Mapping[str, Tensor], *, source: str, ignore: Collection[str] = ()
) -> DenseCLIP:
    """Builds a named architecture and loads a published state dict into it; the path that every checkpoint file takes.

    Args:
        model: open_clip or EVA-CLIP name.
        state: Tensors by open_clip's, OpenAI's or EVA-CLIP's names.
        source: Where they come from, for messages and the identity.
        ignore: Names or prefixes that may be left out.

    Raises:
        ValueError: The name is unknown or the tensors do not fit.
    """
    name = open_clip_name(model)
    config = named_config(name)
    if is_openai(state):
        config["quick_gelu"] = True
    return clip_from_config(name, config, state, source=source, ignore=ignore)


def clip_from_config(
    name: str,
    model_cfg: Mapping[str, Any],
    state: Mapping[str, Tensor],
    *,
    source: str,
    ignore: Collection[str] = (),
) -> DenseCLIP:
    """Builds any open_clip configuration and loads a published state dict into it, strictly.

    Raises:
        ValueError: The tensors do not fit.
    """
    release = f"{name}@{source}"
    clip = build_clip(name, model_cfg, identity=TowerIdentity(image=release, text=release))
    _fill(clip, state, source=source, ignore=ignore)
    return clip


def blank_clip(model: str) -> DenseCLIP:
    """A named architecture with weights that mean nothing, for reading its names and shapes."""
    name = open_clip_name(model)
    return build_clip(name, named_config(name), identity=TowerIdentity(image=f"{name}@blank", text=None))


def open_clip_name(name: str) -> str:
    """open_clip's spelling of a name: EVA-CLIP has others, OpenAI writes "ViT-B/16"."""
    return ALIASES.get(name, name.replace("/", "-"))


def named_config(name: str) -> dict[str, Any]:
    """open_clip's configuration of a model name.

    Raises:
        ValueError: open_clip has no such model; the message gives the nearest names.
    """
    config = open_clip.get_model_config(name)
    if config is None:
        names = [*PACKAGED, *ALIASES, *open_clip.list_models()]
        near = get_close_matches(name, names, n=4, cutoff=0.3)
        raise ValueError(
            f"unknown model {name!r}; the nearest names are {near}, and there is no such folder with {CONFIG_NAME}"
        )
    return dict(deepcopy(config))


def build_clip(
    name: str,
    model_cfg: Mapping[str, Any],
    *,
    identity: TowerIdentity,
    mean: tuple[float, float, float] = OPENAI_DATASET_MEAN,
    std: tuple[float, float, float] = OPENAI_DATASET_STD,
    folder: Path | None = None,
    random: bool = False,
) -> DenseCLIP:
    """Makes the stock open_clip model of a configuration.

    Args:
        name: What it is called from now on.
        model_cfg: open_clip's configuration.
        identity: Where the weights come from.
        mean: Of the input normalisation.
        std: Of the input normalisation.
        folder: Where the tokenizer's own files lie.
        random: Whether weights are drawn; otherwise they mean nothing until a checkpoint fills them.

    Raises:
        ValueError: The configuration is not one of a CLIP with a dense readout.
    """
    kept = deepcopy(dict(model_cfg))
    arguments = deepcopy(kept)
    if arguments["vision_cfg"].get("timm_model_name") == "clipself_mini_hybrid":
        import clipself.backbones.mini_tower  # noqa: F401  registers the tower with timm
    custom_text = arguments.pop("custom_text", False)
    if "timm_model_name" in arguments["vision_cfg"]:
        arguments["vision_cfg"]["timm_model_pretrained"] = False
    _check_towers(name, arguments)
    with nullcontext() if random else unfilled():
        stock: nn.Module = (CustomTextCLIP if custom_text else CLIP)(**arguments)
    return DenseCLIP(
        stock,
        name=name,
        model_cfg=kept,
        tokenizer=build_tokenizer(kept["text_cfg"], folder=folder),
        identity=identity,
        image_mean=mean,
        image_std=std,
        merges_file=merges_of(kept["text_cfg"], folder=folder),
    )


def _check_towers(name: str, model_cfg: Mapping[str, Any]) -> None:
    vision, text = model_cfg["vision_cfg"], model_cfg["text_cfg"]
    if "multimodal_cfg" in model_cfg or vision.get("attentional_pool"):
        reason = (
            "it is a CoCa, whose image tower pools all patches by attention and serves a text decoder, so that a patch "
            "has no way of its own into the joint space"
        )
    elif text.get("hf_model_name"):
        reason = "its text tower belongs to transformers, and open_clip would fetch it from the hub"
    elif text.get("hf_tokenizer_name"):
        reason = "its texts go through another tokenizer than CLIP's byte pairs, which would come from the hub"
    else:
        return
    raise ValueError(f"{name} has no dense readout here: {reason}")


def merges_of(text_cfg: Mapping[str, Any], *, folder: Path | None) -> Path | None:
    """The byte pairs that a configuration names, in the model's folder; None for open_clip's own."""
    named = (text_cfg.get("tokenizer_kwargs") or {}).get("bpe_path")
    return None if named is None else (folder or Path()) / named


def build_tokenizer(text_cfg: Mapping[str, Any], *, folder: Path | None) -> SimpleTokenizer:
    """open_clip's byte-pair tokenizer; a merges file named by the configuration lies in the model's folder."""
    options = dict(text_cfg.get("tokenizer_kwargs") or {})
    merges = merges_of(text_cfg, folder=folder)
    if merges is not None:
        options["bpe_path"] = str(merges)
    return SimpleTokenizer(context_length=text_cfg.get("context_length", 77), **options)


def is_model_folder(folder: Path) -> bool:
    """Whether `load_clip` takes a folder for a model."""
    return (folder / CONFIG_NAME).is_file()


def is_known_name(name: str) -> bool:
    """Whether a name is a packaged model's, one of EVA-CLIP's or one of open_clip's, "ViT-B/16" included."""
    return name in PACKAGED or open_clip.get_model_config(open_clip_name(name)) is not None


def export_folder(model: str | Path) -> Path | None:
    """The folder of an exported or packaged model; None for a name of open_clip's.

    Raises:
        FileNotFoundError: It can only be a folder, and there is no model in it.
    """
    name = str(model).removeprefix("local-dir:")
    if name in PACKAGED:
        return PACKAGED[name]
    folder = Path(name)
    if (folder / CONFIG_NAME).is_file():
        return folder
    if folder.is_dir() and (folder.is_absolute() or "/" in name):
        raise FileNotFoundError(
            f"{folder} holds no {CONFIG_NAME}, so it is not an exported model; `clipself convert` makes one"
        )
    if folder.is_absolute() or str(model).startswith("local-dir:"):
        raise FileNotFoundError(f"no exported model at {folder}; check the path")
    return None


def _load_folder(folder: Path, *, name: str, ignore: Collection[str]) -> DenseCLIP:
    config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    weights = folder / WEIGHTS_NAME
    if not weights.is_file():
        raise FileNotFoundError(f"{folder} holds {CONFIG_NAME} but no {WEIGHTS_NAME}; copy the weights there too")
    card_path = folder / "model_card.json"
    card = json.loads(card_path.read_text(encoding="utf-8")) if card_path.is_file() else {}
    preprocess = config.get("preprocess_cfg", {})
    release = f"{card.get('name', name)}@{folder.name}"
    identity = TowerIdentity(image=card.get("image_tower", release), text=card.get("text_tower", release))
    clip = build_clip(
        card.get("name", name),
        config["model_cfg"],
        identity=identity,
        mean=tuple(preprocess.get("mean", OPENAI_DATASET_MEAN)),
        std=tuple(preprocess.get("std", OPENAI_DATASET_STD)),
        folder=folder,
    )
    _fill(clip, read_state_dict(weights), source=str(weights), ignore=ignore)
    return clip


def _load_named(name: str, pretrained: str | Path | None, *, ignore: Collection[str], seed: int) -> DenseCLIP:
    config = named_config(name)
    tags = list_pretrained_tags_by_model(name)
    if pretrained is None:
        raise ValueError(f"{name} needs weights: pass pretrained= one of {tags}, a checkpoint file, or 'random'")
    if str(pretrained) == "random":
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            release = f"{name}@random"
            return build_clip(name, config, identity=TowerIdentity(image=release, text=release), random=True)
    if Path(pretrained).is_file():
        return clip_from_state_dict(name, read_state_dict(pretrained), source=str(pretrained), ignore=ignore)
    if str(pretrained) not in tags:
        raise ValueError(
            f"{str(pretrained)!r} is neither a file nor a set of weights that open_clip knows for {name}; "
            f"it knows {tags}"
        )
    return _load_tag(name, str(pretrained), ignore=ignore)


def _load_tag(name: str, tag: str, *, ignore: Collection[str]) -> DenseCLIP:
    published = get_pretrained_cfg(name, tag)
    try:
        path = download_pretrained(published)
    except Exception as error:
        raise RuntimeError(
            f"the weights {tag!r} of {name} could not be downloaded ({error}); "
            "download them elsewhere and pass the file as pretrained="
        ) from error
    config = named_config(name)
    config["quick_gelu"] = bool(published.get("quick_gelu", config.get("quick_gelu", False)))
    release = f"{name}@{tag}"
    clip = build_clip(
        name,
        config,
        identity=TowerIdentity(image=release, text=release),
        mean=tuple(published.get("mean") or OPENAI_DATASET_MEAN),
        std=tuple(published.get("std") or OPENAI_DATASET_STD),
    )
    _fill(clip, read_state_dict(path), source=release, ignore=ignore)
    return clip


def _fill(clip: DenseCLIP, state: Mapping[str, Tensor], *, source: str, ignore: Collection[str]) -> None:
    absent = load_strictly(clip.clip, state, source=source, ignore=ignore)
    if absent:
        clip.identity = TowerIdentity(image=clip.identity.image, text=None)
        log.warning(
            "%s holds no text tower (%d tensors such as %s); texts cannot be embedded until text_from= names one",
            source,
            len(absent),
            absent[0],
        )


def _take_text(clip: DenseCLIP, source: str | Path) -> None:
    folder = export_folder(source)
    donor = (
        _load_folder(folder, name=str(source), ignore=())
        if folder is not None
        else _load_named(clip.name, source, ignore=(), seed=0)
    )
    own = clip.clip.state_dict()
    text = {name: value for name, value in donor.clip.state_dict().items() if not name.startswith("visual.")}
    misfit = [name for name in text if name not in own or own[name].shape != text[name].shape]
    if misfit:
        raise ValueError(
            f"the text tower of {source} does not fit {clip.name}: {misfit[0]} {tuple(text[misfit[0]].shape)}"
        )
    clip.clip.load_state_dict({**own, **text}, strict=True)
    clip.tokenizer = donor.tokenizer
    clip.identity = TowerIdentity(image=clip.identity.image, text=donor.identity.text)
