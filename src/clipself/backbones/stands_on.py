"""Heads trained on a frozen CLIP are saved without it: how their folder names that CLIP, and finds it again."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.loading import ALIASES, CONFIG_NAME, PACKAGED, load_clip


def name_clip(model: str, pretrained: str | None, *, folder: Path) -> dict[str, str | None]:
    """What to write into a folder of heads about their CLIP.

    Paths are written as seen from the folder, so that they hold whatever directory a later command is run in, and when
    all of a project moves.

    Args:
        model: What `load_clip` was given: an open_clip name, "clipself-mini" or an export folder.
        pretrained: And its tag or file.
        folder: Where the heads go.
    """
    return {
        "model": _seen_from(folder, model),
        "pretrained": None if pretrained is None else _seen_from(folder, pretrained),
    }


def find_clip(
    named: Mapping[str, Any],
    *,
    folder: Path,
    digest: str,
    part: str = "all",
    clip: DenseCLIP | None = None,
    device: Any = "cpu",
) -> DenseCLIP:
    """Loads the CLIP that a folder of heads stands on, and checks that it is the same one.

    Args:
        named: What `name_clip` said of it; may hold more.
        folder: Where the heads lie.
        digest: `weights_hash` of the CLIP that they were trained on.
        part: Tower that the digest is of.
        clip: The CLIP where it is loaded already.
        device: Where a loaded one goes.

    Raises:
        FileNotFoundError: It was a folder or file that has moved.
        ValueError: Its weights are not those of the training.
    """
    if clip is None:
        tag = named["pretrained"]
        tag = None if tag is None else _found_from(folder, tag)
        clip = load_clip(_found_from(folder, named["model"]), tag, device=device)
    if clip.weights_hash(part) != digest:
        raise ValueError(
            f"{folder} was trained on another CLIP than {clip.name}: the digest of its weights is "
            f"{clip.weights_hash(part)}, expected {digest}; pass the {named['model']} of that time"
        )
    return clip


def _seen_from(folder: Path, name: str) -> str:
    path = Path(name.removeprefix("local-dir:"))
    if name in PACKAGED or not (path.is_file() or (path / CONFIG_NAME).is_file()):
        return name
    # Behind a link, ".." leads out of the link's target: both ends are taken where they really lie.
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _found_from(folder: Path, name: str) -> str:
    if (folder / name).exists():
        return str(folder / name)
    if "/" in name and name not in ALIASES and not Path(name).exists():
        raise FileNotFoundError(
            f"{folder} stands on the CLIP at {os.path.normpath(folder / name)}, which is not there; put it back"
        )
    return name
