"""Which architectures there are: names, configurations, and what of them is refused."""

import json
import re
import zlib
from collections.abc import Mapping
from copy import copy, deepcopy
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import open_clip
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.tokenizer import SimpleTokenizer

from clipself.backbones.hub_text import HubTokenizer, is_hub_text

PACKAGED: Final[Mapping[str, Path]] = {
    "clipself-mini": Path(__file__).parent / "mini",
    "clipself-mini-photos": Path(__file__).parent / "mini_photos",
    "clipself-mini-refined": Path(__file__).parent / "mini_refined",
}
"""Models that ship with the package -> their export folder."""

ALIASES: Final[Mapping[str, str]] = {
    "EVA02-CLIP-B-16": "EVA02-B-16",
    "EVA02-CLIP-L-14": "EVA02-L-14",
    "EVA02-CLIP-L-14-336": "EVA02-L-14-336",
}
"""Name in the EVA-CLIP and CLIPSelf releases -> open_clip's."""


LARGEST_VOCABULARY: Final = 10**7
"""Beyond any; a whole text tower of transformers says itself how many tokens it embeds."""


def open_clip_name(name: str) -> str:
    """open_clip's spelling of a name: EVA-CLIP has others, OpenAI writes "ViT-B/16"."""
    return ALIASES.get(name, name.replace("/", "-"))


def typed_name(model: str) -> str:
    """open_clip's spelling of what was typed as the name of a model.

    Raises:
        ValueError: It is a path that leads to none, or the name of another library's hub.
    """
    if model.startswith("hf-hub:") or ("/" in model and not is_known_name(model)):
        raise ValueError(
            f"unknown model {model!r}: no model folder is there, and it is no name of open_clip's; one of the hub is "
            "downloaded first (hf download NAME --local-dir FOLDER) and passed as its folder, or named as open_clip "
            "does (ViT-B-16 with the weights 'openai')"
        )
    return open_clip_name(model)


def named_config(name: str) -> dict[str, Any]:
    """open_clip's configuration of a model name.

    Raises:
        ValueError: open_clip has no such model; the message gives the nearest names.
    """
    config = open_clip.get_model_config(name)
    if config is None:
        names = {known.lower(): known for known in (*PACKAGED, *ALIASES, *open_clip.list_models())}
        near = [names[one] for one in get_close_matches(name.lower(), names, n=4, cutoff=0.3)]
        raise ValueError(f"unknown model {name!r}; the nearest names are {near}, and there is no such model folder")
    return dict(deepcopy(config))


def named_normalisation(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """RGB mean and deviation that all releases of a name ask for; CLIP's own where they differ or there are none."""
    stated = {
        (tuple(found.get("mean") or OPENAI_DATASET_MEAN), tuple(found.get("std") or OPENAI_DATASET_STD))
        for found in (get_pretrained_cfg(name, tag) for tag in list_pretrained_tags_by_model(name))
    }
    return stated.pop() if len(stated) == 1 else (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)


def is_known_name(name: str) -> bool:
    """Whether a name is a packaged model's, one of EVA-CLIP's or one of open_clip's, "ViT-B/16" included."""
    return name in PACKAGED or open_clip.get_model_config(open_clip_name(name)) is not None


def check_towers(name: str, model_cfg: Mapping[str, Any]) -> None:
    """Refuses configurations whose tower would be fetched from elsewhere.

    Raises:
        ValueError: What it names is no plain name of timm's.
    """
    tower = model_cfg["vision_cfg"].get("timm_model_name")
    if tower is not None and (not isinstance(tower, str) or not re.fullmatch(r"[\w.]+", tower)):
        raise ValueError(
            f"{name}: timm_model_name is {tower!r}; only the plain name of one of timm's models is taken, nothing is "
            "fetched from a hub or built from a folder that a configuration names"
        )


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


def build_tokenizer(text_cfg: Mapping[str, Any], *, folder: Path | None) -> SimpleTokenizer | HubTokenizer:
    """open_clip's byte-pair tokenizer, or transformers' where the configuration names one.

    A merges file named by the configuration lies in the model's folder, and so do the files of transformers'.

    Raises:
        ValueError: The merges are damaged, or other tokens come out of them than the text tower embeds.
    """
    options = dict(text_cfg.get("tokenizer_kwargs") or {})
    length = text_cfg.get("context_length", 77)
    if is_hub_text(text_cfg):
        name = str(text_cfg.get("hf_tokenizer_name") or text_cfg["hf_model_name"])
        embedded = LARGEST_VOCABULARY if text_cfg.get("hf_model_name") else text_cfg.get("vocab_size", 49408)
        return HubTokenizer(name, folder=folder, embedded=embedded, context_length=length, options=options)
    merges, version = merges_of(text_cfg, folder=folder), None
    try:
        if merges is not None:
            options["bpe_path"], held = str(merges), merges.stat()
            version = (held.st_mtime_ns, held.st_size)
        tokenizer = copy(_read_byte_pairs(json.dumps(options, sort_keys=True), version))
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise ValueError(f"{merges} is no list of byte pairs ({error}); copy it again") from error
    tokenizer.context_length = length
    embedded = text_cfg.get("vocab_size", tokenizer.vocab_size)
    if tokenizer.vocab_size != embedded:
        raise ValueError(
            f"the tokenizer knows {tokenizer.vocab_size} tokens and the text tower embeds {embedded}; the "
            "configuration must name the model's own byte pairs, and the file be whole"
        )
    return tokenizer


@lru_cache(maxsize=4)
def _read_byte_pairs(options: str, version: tuple[int, int] | None) -> SimpleTokenizer:
    """The tables of a tokenizer, which take a tenth of a second; of a file as it was at a time."""
    del version
    return SimpleTokenizer(**json.loads(options))
