"""The names a detector is asked for, as embeddings, with what training saw of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import embed_names
from clipself.text.templates import spoken_name


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """Names in the order of their labels; the background is one more row at the end of both tensors.

    Attributes:
        names: Class names.
        texts_KD: Unit embeddings of the names and of the background, (names + 1, D).
        base_K: Classes that training saw, and the background True, (names + 1,).
        pictured: Names whose row is made of pictures of the thing, and not of sentences.
    """

    names: tuple[str, ...]
    texts_KD: Tensor
    base_K: Tensor
    pictured: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not len(self.names) + 1 == len(self.texts_KD) == len(self.base_K):
            raise ValueError(
                f"{len(self.names)} names need {len(self.names) + 1} rows with the background's, got "
                f"{len(self.texts_KD)} embeddings and {len(self.base_K)} flags"
            )

    def to(self, device: torch.device | str) -> "Vocabulary":
        """The same on another device."""
        return replace(self, texts_KD=self.texts_KD.to(device), base_K=self.base_K.to(device))


def make_vocabulary(
    clip: DenseCLIP,
    names: Sequence[str],
    *,
    base: Sequence[str],
    templates: str = "detection",
    wording: str = "article",
    longest: int | None = None,
    cache: bool = True,
    texts_KD: Tensor | None = None,
    examples: Mapping[str, Tensor] | None = None,
) -> Vocabulary:
    """Embeds names and the word "background" with the model's own text tower.

    Args:
        clip: Whose text tower speaks.
        names: Class names; each once, whatever its capitals and underscores.
        base: Names that training saw, compared as they are spoken; others are novel.
        templates: Sentences around the names.
        wording: How names are put into them; row of `clipself.backbones.text.WORDINGS`.
        longest: Tokens after which a sentence is cut.
        cache: Whether embeddings are kept on disk.
        texts_KD: Ready embeddings of the names and the background instead, for towers without text.
        examples: More names, by a unit row (D,) of pictures of each; see `embed_examples`.

    Raises:
        ValueError: There are no names, an empty one, or one twice.
    """
    if isinstance(names, str):
        raise ValueError(f"names must be a list of strings, got the single string {names!r}; wrap it in a list")
    shown = dict(examples or {})
    asked, names = names, [*names, *shown]
    if not names:
        raise ValueError("there are no names to look for; pass at least one, such as names=['a cat']")
    spoken = [spoken_name(name) for name in names]
    if not all(word.strip() for word in spoken):
        raise ValueError("one of the names is empty; remove it")
    count = Counter(spoken)
    twice = next((name for name, word in zip(names, spoken, strict=True) if count[word] > 1), None)
    if twice is not None:
        raise ValueError(f"the name {twice!r} is there more than once; two equal names would halve each other's score")
    if texts_KD is None:
        words = [*asked, "background"]
        texts_KD = embed_names(clip, words, templates=templates, wording=wording, longest=longest, cache=cache).rows_SD
    if shown:
        rows = torch.stack(list(shown.values())).to(texts_KD)
        texts_KD = torch.cat([texts_KD[:-1], rows, texts_KD[-1:]])
    known = {spoken_name(name) for name in base}
    base_K = torch.tensor([*(word in known for word in spoken), True], device=texts_KD.device)
    return Vocabulary(names=tuple(names), texts_KD=texts_KD, base_K=base_K, pictured=frozenset(shown))
