"""From a name, a tag, a file or a folder to a `DenseCLIP`."""

import logging
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Final

import torch
from open_clip.coca_model import CoCa
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.pretrained import download_pretrained, get_pretrained_cfg, list_pretrained_tags_by_model
from torch import Tensor, nn

from clipself.backbones.activation import decide_quick_gelu
from clipself.backbones.dense_clip import DenseCLIP, TowerIdentity
from clipself.backbones.devices import pick_device
from clipself.backbones.fast_init import plain_numbers, unfilled
from clipself.backbones.gates import read_gates, set_gates
from clipself.backbones.hub_text import buildable_text
from clipself.backbones.layouts import without_wrappers
from clipself.backbones.model_config import (
    PACKAGED,
    build_tokenizer,
    check_towers,
    merges_of,
    named_config,
    named_normalisation,
    open_clip_name,
    typed_name,
)
from clipself.backbones.model_folder import CONFIG_NAME, HUB_CONFIG, is_model_folder, read_model_folder
from clipself.backbones.strict import load_strictly, within_budget
from clipself.backbones.tips import TipsClip
from clipself.backbones.weights import first_line, read_state_dict
from clipself.renamed import old_names

__getattr__ = old_names(__name__)

log = logging.getLogger(__name__)

SPARE_TEXT: Final = 2**29
"""Numbers that a text tower may have which the weights lack as a whole."""
WRONG_CONFIG: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What building a model from an edited configuration may end in."""


def load_clip(
    model: str | Path = "clipself-mini",
    pretrained: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    text_from: str | Path | None = None,
    ignore: Collection[str] = (),
    quick_gelu: bool | None = None,
    seed: int = 0,
) -> DenseCLIP:
    """Loads a CLIP with its dense side; every tensor strictly, no code from files.

    Args:
        model: An open_clip or EVA-CLIP name ("ViT-B-16", "EVA02-CLIP-B-16"), "clipself-mini", or a folder with
            `open_clip_config.json` (an export of ours or open_clip's) or with `config.json` (transformers' CLIPModel,
            SiglipModel or TIPSv2).
        pretrained: An open_clip tag ("openai", downloaded where the network allows), a checkpoint file, a folder that
            holds one, or "random". Not used where the model is a folder or a packaged one, which is told.
        device: Where the model goes; "auto" is the best there is.
        text_from: Tag or file whose text tower is taken when the image tower comes from a file without one, or on
            purpose from another release. Only this option mixes releases.
        ignore: Names or prefixes in the file that may be left out (heads of another task).
        quick_gelu: Whether the activation is QuickGELU, as in OpenAI's models and what began as them; for a file that
            does not say so. If not given, it is taken from the name of the model, the tag and the file, and a doubt is
            told.
        seed: Seed of the weights when `pretrained="random"`.

    Returns:
        The model in evaluation mode, float32.

    Raises:
        ValueError: Unknown model or tag, missing `pretrained`, a file that does not fit, or a folder without weights.
        FileNotFoundError: The file or folder does not exist.
        OSError: Weights could not be downloaded.
    """
    if not isinstance(model, str | PathLike) or not isinstance(pretrained, str | PathLike | None):
        wrong = ("model", model) if not isinstance(model, str | PathLike) else ("pretrained", pretrained)
        raise ValueError(f"{wrong[0]}={wrong[1]!r:.60} is of type {type(wrong[1]).__name__}, expected a name or a path")
    folder = export_folder(model)
    if folder is not None:
        if pretrained is not None and (Path(pretrained).suffix or Path(pretrained).exists()):  # recipes name tags
            log.warning("%s holds its own weights; %s is not used: it is for a name of open_clip", model, pretrained)
        clip = _load_folder(folder, name=str(model), ignore=ignore, quick_gelu=quick_gelu)
    else:
        name = typed_name(str(model))
        clip = _load_named(name, pretrained, ignore=ignore, quick_gelu=quick_gelu, seed=seed)
    if text_from is not None:
        _take_text(clip, text_from)
    return clip.to(pick_device(device)).eval()


def clip_from_state_dict(
    model: str,
    state: Mapping[str, Tensor],
    *,
    source: str,
    ignore: Collection[str] = (),
    quick_gelu: bool | None = None,
) -> DenseCLIP:
    """Builds a named architecture and loads a published state dict into it; the path that every checkpoint file takes.

    Args:
        model: open_clip or EVA-CLIP name.
        state: Tensors by open_clip's, OpenAI's, EVA-CLIP's or transformers' names.
        source: Where they come from, for messages and the identity; a path where they come from a file.
        ignore: Names or prefixes that may be left out.
        quick_gelu: The activation; see `load_clip`.

    Raises:
        ValueError: The name is unknown or the tensors do not fit.
    """
    name = open_clip_name(model)
    config = named_config(name)
    bare, _ = without_wrappers(state)
    config["quick_gelu"] = decide_quick_gelu(name, config, bare, source=source, given=quick_gelu)
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
    with within_budget(state, spare=SPARE_TEXT):
        clip = build_clip(name, model_cfg, identity=TowerIdentity(image=release, text=release))
    _fill(clip, state, source=source, ignore=ignore)
    return clip


def blank_clip(model: str) -> DenseCLIP:
    """A named architecture with weights that mean nothing, for reading its names and shapes."""
    name = open_clip_name(model)
    return build_clip(name, named_config(name), identity=TowerIdentity(image=f"{name}@blank", text=None))


def build_clip(
    name: str,
    model_cfg: Mapping[str, Any],
    *,
    identity: TowerIdentity,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    folder: Path | None = None,
    random: bool = False,
) -> DenseCLIP:
    """Makes the stock open_clip model of a configuration.

    Args:
        name: What it is called from now on.
        model_cfg: open_clip's configuration.
        identity: Where the weights come from.
        mean: Of the input normalisation; what the releases of this name ask for if not given.
        std: Likewise.
        folder: Where the tokenizer's own files lie.
        random: Whether weights are drawn; otherwise they mean nothing until a checkpoint fills them.

    Raises:
        ValueError: The configuration is not one of a CLIP with a dense readout.
    """
    kept = deepcopy(dict(model_cfg))
    arguments = deepcopy(kept)
    usual = named_normalisation(name)
    if arguments["vision_cfg"].get("timm_model_name") == "clipself_mini_hybrid":
        import clipself.backbones.mini_tower  # noqa: F401  registers the tower with timm
    check_towers(name, arguments)
    arguments["text_cfg"] = buildable_text(arguments["text_cfg"], folder=folder)
    custom_text = arguments.pop("custom_text", False) or bool(arguments["text_cfg"].get("hf_model_name"))
    if "timm_model_name" in arguments["vision_cfg"]:
        # Blocks that are dropped at random would draw from no generator of a step, in the student alone.
        arguments["vision_cfg"].update(timm_model_pretrained=False, timm_drop=0.0, timm_drop_path=None)
    if "tipsv2" in arguments["vision_cfg"]:
        family: type[nn.Module] = TipsClip
    else:
        family = CoCa if "multimodal_cfg" in arguments else CustomTextCLIP if custom_text else CLIP
    with plain_numbers(), nullcontext() if random else unfilled():
        stock: nn.Module = family(**arguments)
    return DenseCLIP(
        stock,
        name=name,
        model_cfg=kept,
        tokenizer=build_tokenizer(kept["text_cfg"], folder=folder),
        identity=identity,
        image_mean=mean or usual[0],
        image_std=std or usual[1],
        merges_file=merges_of(kept["text_cfg"], folder=folder),
    )


def export_folder(model: str | Path) -> Path | None:
    """The folder of an exported, packaged or transformers' model; None for a name of open_clip's.

    Raises:
        FileNotFoundError: It can only be a folder, and there is no model in it.
    """
    name = str(model).removeprefix("local-dir:")
    if name in PACKAGED:
        return PACKAGED[name]
    folder = Path(name)
    try:
        if is_model_folder(folder):
            return folder
    except OSError:  # too long for a path
        return None
    if folder.is_dir() and (folder.is_absolute() or "/" in name):
        raise FileNotFoundError(
            f"{folder} holds no {CONFIG_NAME} or {HUB_CONFIG}, so it is no exported model; `clipself convert` makes one"
        )
    if folder.is_absolute() or str(model).startswith("local-dir:"):
        raise FileNotFoundError(f"no exported model at {folder}; check the path")
    return None


def _load_folder(folder: Path, *, name: str, ignore: Collection[str], quick_gelu: bool | None = None) -> DenseCLIP:
    """Reads the weights first, so that a configuration can be held against them before anything is built."""
    found = read_model_folder(folder, name=name)
    if quick_gelu is not None:
        found = replace(found, model_cfg={**found.model_cfg, "quick_gelu": quick_gelu})
    buildable_text(found.model_cfg["text_cfg"], folder=folder)  # says in words what the folder lacks
    try:
        with within_budget(found.state, spare=SPARE_TEXT):
            clip = build_clip(
                found.name, found.model_cfg, identity=found.identity, mean=found.mean, std=found.std, folder=folder
            )
    except WRONG_CONFIG as error:
        raise ValueError(
            f"{found.config_path} describes no CLIP that can be built for its weights ({type(error).__name__}: "
            f"{first_line(error)}); was it edited?"
        ) from error
    _fill(clip, found.state, source=str(found.weights_path), ignore=ignore)
    set_gates(clip, read_gates(folder))
    return clip


def _load_named(
    name: str,
    pretrained: str | Path | None,
    *,
    ignore: Collection[str],
    quick_gelu: bool | None = None,
    seed: int = 0,
) -> DenseCLIP:
    config = named_config(name)
    tags = list_pretrained_tags_by_model(name)
    if pretrained is None:
        raise ValueError(f"{name} needs weights: pass pretrained= one of {tags}, a checkpoint file, or 'random'")
    if quick_gelu is not None:
        config["quick_gelu"] = quick_gelu
    if str(pretrained) == "random":
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            release = f"{name}@random"
            return build_clip(name, config, identity=TowerIdentity(image=release, text=release), random=True)
    if Path(pretrained).exists():
        state = read_state_dict(pretrained)
        return clip_from_state_dict(name, state, source=str(pretrained), ignore=ignore, quick_gelu=quick_gelu)
    if str(pretrained) not in tags:
        raise ValueError(
            f"{str(pretrained)!r} is neither a file nor a set of weights that open_clip knows for {name}; "
            f"it knows {tags}"
        )
    return _load_tag(name, str(pretrained), ignore=ignore, quick_gelu=quick_gelu)


def _load_tag(name: str, tag: str, *, ignore: Collection[str], quick_gelu: bool | None) -> DenseCLIP:
    published = get_pretrained_cfg(name, tag)
    try:
        path = download_pretrained(published)
    except Exception as error:
        raise OSError(
            f"the weights {tag!r} of {name} could not be downloaded ({error}); "
            "download them elsewhere and pass the file as pretrained="
        ) from error
    config = named_config(name)
    published_gelu = bool(published.get("quick_gelu", config.get("quick_gelu", False)))
    config["quick_gelu"] = published_gelu if quick_gelu is None else quick_gelu
    release = f"{name}@{tag}"
    clip = build_clip(
        name,
        config,
        identity=TowerIdentity(image=release, text=release),
        mean=published.get("mean") and tuple(published["mean"]),
        std=published.get("std") and tuple(published["std"]),
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
    folder = None if Path(source).is_file() else export_folder(source)
    gelu = bool(clip.model_cfg.get("quick_gelu", False))
    donor = (
        _load_folder(folder, name=str(source), ignore=())
        if folder is not None
        else _load_named(clip.name, source, ignore=(), quick_gelu=gelu)
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
