"""Exact GELU or QuickGELU: two functions that no tensor tells apart, and embeddings differ with the wrong one."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import open_clip
from torch import Tensor

from clipself.backbones.layouts import is_openai
from clipself.files import read_json

if TYPE_CHECKING:
    from clipself.backbones.dense_clip import DenseCLIP

log = logging.getLogger(__name__)

OPENAI_FILE: Final = re.compile(r"(?<![a-z0-9])openai(?![a-z0-9])", re.IGNORECASE)
"""A file that calls itself OpenAI's, as the CLIPSelf releases do: `openai_vitb16_coco_clipself_patches.pt`."""


def computation_hash(clip: "DenseCLIP", part: str = "all") -> str:
    """What a model computes, for keys of caches: its weights, and QuickGELU, which no weight shows.

    Args:
        clip: The model.
        part: See `DenseCLIP.weights_hash`.
    """
    return clip.weights_hash(part) + (" QuickGELU" if clip.model_cfg.get("quick_gelu") else "")


def decide_quick_gelu(
    name: str, model_cfg: Mapping[str, Any], state: Mapping[str, Tensor], *, source: str, given: bool | None
) -> bool:
    """Chooses the activation for a checkpoint by what is known of it, and tells a doubt.

    In this order: what the caller says, a model that is a -quickgelu one, OpenAI's integers in the file, a
    `config.json` of transformers beside it, the word "openai" in its name. Many trainers drop the integers.

    Args:
        name: open_clip's name of the model.
        model_cfg: Its configuration.
        state: Tensors of the file.
        source: The file, where it is one.
        given: What the caller says.
    """
    if given is not None:
        return given
    if model_cfg.get("quick_gelu", False) or is_openai(state):
        return True
    twin = f"{name}-quickgelu"
    if twin not in open_clip.list_models():
        return False
    stated = _stated_beside(Path(source))
    if stated is not None:
        return stated
    if OPENAI_FILE.search(Path(source).stem):
        log.warning(
            "%s: QuickGELU is taken, because the file calls itself OpenAI's; name %s to say so yourself, or pass "
            "quick_gelu=False for the exact GELU", source, twin,
        )  # fmt: skip
        return True
    log.warning(
        "%s does not say which activation it was trained with; %s computes the exact GELU. What began as OpenAI's "
        "weights needs QuickGELU, else its embeddings are others: name %s then (or quick_gelu=True, --quick-gelu)",
        source, name, twin,
    )  # fmt: skip
    return False


def _stated_beside(path: Path) -> bool | None:
    config = (path if path.is_dir() else path.parent) / "config.json"
    try:
        held = read_json(config)
        stated = hub_activation(held, config, default="") if held.get("model_type") == "clip" else ""
    except (OSError, ValueError, AttributeError):
        return None
    return stated == "quick_gelu" if stated else None


def hub_activation(held: Mapping[str, Any], path: Path, *, default: str) -> str:
    """The activation that a configuration of transformers' CLIPModel states.

    Args:
        held: The configuration.
        path: Where it lies.
        default: What to take where it states none; transformers' own default is "quick_gelu".

    Raises:
        ValueError: Both towers have another one, or it is one that open_clip's towers do not have.
    """
    sides = [held.get(key) for key in ("vision_config", "text_config")]
    stated = {side.get("hidden_act", default) if isinstance(side, Mapping) else default for side in sides}
    if len(stated) > 1 or not stated <= {"quick_gelu", "gelu", default}:
        raise ValueError(f"{path}: hidden_act is {sorted(map(str, stated))}; quick_gelu or gelu in both towers is read")
    return str(stated.pop())
