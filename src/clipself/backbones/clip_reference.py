"""How a folder of trained heads names the CLIP that they stand on, and finds it again."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.loading import load_clip
from clipself.backbones.model_config import PACKAGED, is_known_name
from clipself.backbones.model_folder import is_model_folder

CLIP_KEYS: Final = ("model", "pretrained", "text_from")
"""What `load_clip` was given, as a card keeps it."""


def name_clip(
    model: str | Path, pretrained: str | Path | None, *, folder: Path, text_from: str | Path | None = None
) -> dict[str, str | None]:
    """What to write into a folder of heads about their CLIP.

    Paths are written as seen from the folder, so that they hold whatever directory a later command is run in, and when
    all of a project moves.

    Args:
        model: What `load_clip` was given: an open_clip name, "clipself-mini" or a model folder.
        pretrained: And its tag or file.
        folder: Where the heads go.
        text_from: And what its text tower was taken from.
    """
    given = {"model": model, "pretrained": pretrained, "text_from": text_from}
    return {key: None if value is None else _seen_from(folder, str(value)) for key, value in given.items()}


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
        ValueError: It cannot be loaded, or its weights are not those of the training.
    """
    if clip is None:
        try:
            found = {key: None if named.get(key) is None else _found_from(folder, named[key]) for key in CLIP_KEYS}
            clip = load_clip(str(found["model"]), found["pretrained"], text_from=found["text_from"], device=device)
        except (ValueError, OSError) as error:
            kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
            raise kind(f"the CLIP that {folder} stands on cannot be loaded: {error}") from error
    if clip.weights_hash(part) != digest:
        raise ValueError(
            f"{folder} was trained on another CLIP than {clip.name}: the digest of its weights is "
            f"{clip.weights_hash(part)}, expected {digest}; pass the {named['model']} of that time"
        )
    return clip


def _seen_from(folder: Path, name: str) -> str:
    path = Path(name.removeprefix("local-dir:"))
    if name in PACKAGED or not (path.is_file() or is_model_folder(path)):
        return name
    # Behind a link, ".." leads out of the link's target: both ends are taken where they really lie.
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _found_from(folder: Path, name: str) -> str:
    try:
        if (folder / name).exists():
            return str(folder / name)
    except OSError:  # too long for a path
        return name
    if name.startswith((".", "/")) or ("/" in name and not is_known_name(name) and not Path(name).exists()):
        raise FileNotFoundError(f"there is none at {os.path.normpath(folder / name)}; put it back")
    return name
