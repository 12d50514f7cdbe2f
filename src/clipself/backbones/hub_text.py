"""Text sides that come from transformers: tokenizers of other kinds than CLIP's byte pairs, and whole text towers.

Of a model that open_clip knows by name they come from the hub, or its cache; of a model's folder only from that folder.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from clipself.cards import read_card

log = logging.getLogger(__name__)

TEXT_CONFIG: Final = "text_tower"
"""Folder inside a model's, with transformers' configuration of its text tower."""

OPTIONS: Final = frozenset({"clean", "strip_sep_token", "language", "tokenizer_mode"})
"""What a configuration may ask of a tokenizer; others go to transformers, which runs code when told."""

TOKENIZER_FILES: Final = ("tokenizer.json", "tokenizer_config.json", "spiece.model", "tokenizer.model")
"""By any of these a folder holds a tokenizer."""


class HubTokenizer:
    """A tokenizer of transformers behind open_clip's adapter, opened when the first text comes.

    So that images alone ask for nothing from the hub.

    Args:
        name: Its name on the hub.
        folder: Where its files lie, for a model that has a folder; nothing is fetched then.
        embedded: How many tokens the text tower embeds.
        context_length: Tokens of a text.
        options: open_clip's `tokenizer_kwargs`.

    Raises:
        ValueError: An option is none of open_clip's.
    """

    def __init__(
        self, name: str, *, folder: Path | None, embedded: int, context_length: int, options: Mapping[str, Any]
    ) -> None:
        if not OPTIONS.issuperset(options):
            raise ValueError(f"tokenizer_kwargs {sorted(options)} are none of {', '.join(sorted(OPTIONS))}")
        self.name, self.folder, self.embedded = name, folder, embedded
        self.context_length, self.options = context_length, dict(options)
        self._opened: Any = None

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        """Token ids (K, L).

        Raises:
            ValueError: The folder does not hold its files, or they are damaged or another model's.
            OSError: It could not be downloaded.
        """
        ids: Tensor = self._open()(list(texts), context_length)
        if int(ids.max()) >= self.embedded:
            raise ValueError(
                f"the tokenizer {self.name} gives token {int(ids.max())} and the text tower embeds {self.embedded}; "
                "it is another model's"
            )
        return ids

    def save(self, folder: Path) -> None:
        """Writes its files into a folder, from those at hand; nothing is fetched, and what is missing is told."""
        try:
            opened = self._opened or self._open(local_files_only=True)
        except (OSError, ValueError) as error:
            log.warning(
                "%s is written without the files of the tokenizer %s, which are not at hand (%s); for texts, copy "
                "them into that folder", folder, self.name, error,
            )  # fmt: skip
        else:
            opened.save_pretrained(str(folder))

    def _open(self, **how: Any) -> Any:
        if self._opened is None:
            if self.folder is not None and not holds_tokenizer(self.folder):
                raise ValueError(
                    f"the model's texts go through the tokenizer {self.name}, and {self.folder} does not hold its "
                    f"files ({', '.join(TOKENIZER_FILES[:2])}, ...); copy them there"
                )
            options = {**self.options, **how, "trust_remote_code": False}
            self._opened = _open(self.name, self.folder, context_length=self.context_length, options=options)
        return self._opened


class NotHad(OSError, ValueError):
    """Nothing came from the hub: of the network to who waits for it, of the name to who asked for a model."""


def _open(name: str, folder: Path | None, *, context_length: int, options: Mapping[str, Any]) -> Any:
    from open_clip.tokenizer import HFTokenizer

    try:
        return HFTokenizer(name if folder is None else str(folder), context_length=context_length, **options)
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        if folder is None:
            raise NotHad(
                f"the tokenizer {name} could not be had from the hub ({said}); download the model's folder elsewhere "
                "and pass that, or ask for images alone"
            ) from error
        raise ValueError(f"the tokenizer in {folder} cannot be opened ({said}); copy its files again") from error


def holds_tokenizer(folder: Path) -> bool:
    """Whether the files of a tokenizer lie in a folder."""
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def is_hub_text(text_cfg: Mapping[str, Any]) -> bool:
    """Whether tokenizer or text tower are transformers'."""
    return bool(text_cfg.get("hf_tokenizer_name") or text_cfg.get("hf_model_name"))


def buildable_text(text_cfg: Mapping[str, Any], *, folder: Path | None) -> dict[str, Any]:
    """A text configuration that open_clip builds without fetching weights, which a strict load would replace.

    Args:
        text_cfg: open_clip's.
        folder: The model's folder, whose `text_tower/config.json` then says what is built; None for open_clip's names.

    Raises:
        ValueError: The folder says nothing of the text tower that its configuration names.
        NotHad: The hub's configuration of it could not be had; both an OSError and a ValueError.
    """
    built = dict(text_cfg)
    name = built.get("hf_model_name")
    if not name:
        return built
    built["hf_model_pretrained"] = False
    if folder is not None:
        if not (folder / TEXT_CONFIG / "config.json").is_file():
            raise ValueError(
                f"the text tower is transformers' {name!r:.60}, and {folder / TEXT_CONFIG} does not hold its "
                "config.json; nothing is fetched for a folder, copy it there"
            )
        if "auto_map" in read_card(folder / TEXT_CONFIG / "config.json"):
            raise ValueError(f"{folder / TEXT_CONFIG / 'config.json'} asks for code of its own, which is never run")
        built["hf_model_name"] = str(folder / TEXT_CONFIG)
        return built
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:
        raise NotHad(
            f"the configuration of the text tower {name} could not be had from the hub "
            f"({' '.join(str(error).split())[:200]}); download the model elsewhere and pass its folder"
        ) from error
    return built


def save_hub_text(clip: Any, folder: Path) -> None:
    """Writes what a reader of an export needs of transformers' parts: the tokenizer's files, the tower's configuration.

    Args:
        clip: A `DenseCLIP`.
        folder: The export's.
    """
    if isinstance(clip.tokenizer, HubTokenizer):
        clip.tokenizer.save(folder)
    config = getattr(getattr(clip.clip, "text", None), "config", None)
    if config is not None:
        config.save_pretrained(str(folder / TEXT_CONFIG))
