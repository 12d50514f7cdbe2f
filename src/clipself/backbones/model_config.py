"""Which architectures there are: names, configurations, and what of them is refused."""

import re
import zlib
from collections.abc import Mapping
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import open_clip
from open_clip.tokenizer import SimpleTokenizer

PACKAGED: Final[Mapping[str, Path]] = {"clipself-mini": Path(__file__).parent / "mini"}
"""Models that ship with the package -> their export folder."""

ALIASES: Final[Mapping[str, str]] = {
    "EVA02-CLIP-B-16": "EVA02-B-16",
    "EVA02-CLIP-L-14": "EVA02-L-14",
    "EVA02-CLIP-L-14-336": "EVA02-L-14-336",
}
"""Name in the EVA-CLIP and CLIPSelf releases -> open_clip's."""


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
        raise ValueError(f"unknown model {name!r}; the nearest names are {near}, and there is no such model folder")
    return dict(deepcopy(config))


def is_known_name(name: str) -> bool:
    """Whether a name is a packaged model's, one of EVA-CLIP's or one of open_clip's, "ViT-B/16" included."""
    return name in PACKAGED or open_clip.get_model_config(open_clip_name(name)) is not None


def check_towers(name: str, model_cfg: Mapping[str, Any]) -> None:
    """Refuses configurations of other families, each with its reason.

    Raises:
        ValueError: It is none of a CLIP with a dense readout, or would be fetched from elsewhere.
    """
    vision, text = model_cfg["vision_cfg"], model_cfg["text_cfg"]
    tower = vision.get("timm_model_name")
    if tower is not None and (not isinstance(tower, str) or not re.fullmatch(r"[\w.]+", tower)):
        raise ValueError(
            f"{name}: timm_model_name is {tower!r}; only the plain name of one of timm's models is taken, nothing is "
            "fetched from a hub or built from a folder that a configuration names"
        )
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
    """The byte pairs that a configuration names, in the model's folder; None for open_clip's own.

    Raises:
        ValueError: What it names is no bare file name.
    """
    named = (text_cfg.get("tokenizer_kwargs") or {}).get("bpe_path")
    if named is None:
        return None
    if not isinstance(named, str) or Path(named).name != named:
        raise ValueError(f"bpe_path is {named!r}; only the name of a file in the model's own folder is taken")
    return (folder or Path()) / named


def build_tokenizer(text_cfg: Mapping[str, Any], *, folder: Path | None) -> SimpleTokenizer:
    """open_clip's byte-pair tokenizer; a merges file named by the configuration lies in the model's folder.

    Raises:
        ValueError: The merges are damaged, or other tokens come out of them than the text tower embeds.
    """
    options = dict(text_cfg.get("tokenizer_kwargs") or {})
    merges = merges_of(text_cfg, folder=folder)
    if merges is not None:
        options["bpe_path"] = str(merges)
    try:
        tokenizer = SimpleTokenizer(context_length=text_cfg.get("context_length", 77), **options)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise ValueError(f"{merges} is no list of byte pairs ({error}); copy it again") from error
    embedded = text_cfg.get("vocab_size", tokenizer.vocab_size)
    if tokenizer.vocab_size != embedded:
        raise ValueError(
            f"the tokenizer knows {tokenizer.vocab_size} tokens and the text tower embeds {embedded}; the "
            "configuration must name the model's own byte pairs, and the file be whole"
        )
    return tokenizer
