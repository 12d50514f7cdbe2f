"""Class names to text embeddings: averaged over sentences, kept on disk under a key that nothing stale can meet."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from clipself.backbones.dense_clip import DenseCLIP
from clipself.files import write_atomically
from clipself.text.templates import fill_templates, load_templates

CACHE_LIMIT: Final = 256
"""Sentences in one forward pass."""


def default_cache_dir() -> Path:
    """`$CLIPSELF_CACHE`, else `~/.cache/clipself`."""
    named = os.environ.get("CLIPSELF_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "clipself"


@torch.no_grad()
def embed_vocab(
    clip: DenseCLIP,
    names: Sequence[str],
    *,
    templates: str | Path = "detection",
    cache_dir: Path | None = None,
    progress: bool = False,
) -> Tensor:
    """Embeds class names: every sentence normalised, averaged over the sentences, normalised again.

    Source: CLIPSelf, released text embeddings (after ViLD, arXiv:2104.13921).

    Args:
        clip: The model whose text tower speaks.
        names: Class names as the data set spells them.
        templates: A set by name, or a text file with one sentence a line.
        cache_dir: Folder of the disk cache; None keeps nothing on disk.
        progress: Whether to show a bar.

    Returns:
        Unit rows (K, D) in float32 on the CPU, in the order of the names.

    Raises:
        ValueError: The model has no text tower, there are no names, or a sentence has no place for the name.
    """
    if not names:
        raise ValueError("there are no names to embed; pass at least one")
    sentences = load_templates(templates)
    path = None if cache_dir is None else cache_dir / "text" / f"{_key(clip, names, sentences)}.safetensors"
    if path is not None and (kept := _read(path, len(names), clip.embed_dim)) is not None:
        return kept
    embeddings = torch.cat(list(_embed(clip, names, sentences, progress=progress)))
    if path is not None:
        write_atomically(path, lambda part: save_file({"embeddings": embeddings.contiguous()}, part))
    return embeddings


def _embed(clip: DenseCLIP, names: Sequence[str], sentences: list[str], *, progress: bool) -> Iterator[Tensor]:
    at_once = max(1, CACHE_LIMIT // len(sentences))
    starts = range(0, len(names), at_once)
    for start in tqdm(starts, desc="embedding names", disable=not progress, leave=False):
        some = names[start : start + at_once]
        filled = [sentence for name in some for sentence in fill_templates(name, sentences)]
        each = torch.cat(
            [clip.encode_text(filled[row : row + CACHE_LIMIT]) for row in range(0, len(filled), CACHE_LIMIT)]
        )
        mean = each.float().reshape(len(some), len(sentences), -1).mean(1)
        yield F.normalize(mean, dim=-1).cpu()


def _key(clip: DenseCLIP, names: Sequence[str], sentences: list[str]) -> str:
    said = json.dumps([clip.name, clip.identity.text, clip.weights_hash("text"), list(names), sentences])
    return hashlib.sha256(said.encode("utf-8")).hexdigest()[:32]


def _read(path: Path, count: int, width: int) -> Tensor | None:
    """The kept rows, or None if there are none that are whole."""
    if not path.is_file():
        return None
    try:
        kept = load_file(path)["embeddings"]
    except Exception:  # a damaged file is made anew, whatever is wrong with it
        return None
    return kept if kept.shape == (count, width) else None
