"""Class names to text embeddings: one way for all, kept on disk under a key that nothing stale can meet."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from clipself.backbones.activation import computation_hash
from clipself.backbones.dense_clip import DenseCLIP
from clipself.choices import pick
from clipself.files import default_cache_dir as default_cache_dir
from clipself.files import write_atomically
from clipself.structures import TextRows
from clipself.text.names import class_names
from clipself.text.synonyms import fill_plainly, split_synonyms, tell_alike
from clipself.text.templates import fill_templates, load_templates, spoken_name
from clipself.text.vocabulary import Vocabulary

log = logging.getLogger(__name__)

SENTENCES_AT_ONCE: Final = 256
"""Sentences in one forward pass of the text tower."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wording:
    """How a published system puts names into sentences.

    Attributes:
        fill: All sentences of one name.
        synonyms: Whether a name with commas is several names of one class.
    """

    fill: Callable[[str, list[str]], list[str]]
    synonyms: bool


def _fill_short(name: str, sentences: list[str]) -> list[str]:
    return fill_plainly([spoken_name(name, drop_suffixes=True)], sentences)


def _fill_spaced(name: str, sentences: list[str]) -> list[str]:
    return fill_plainly([name.replace("_", " ")], sentences)


def _fill_as_written(name: str, sentences: list[str]) -> list[str]:
    return fill_plainly([name], sentences)


WORDINGS: Final = {
    "article": Wording(fill=fill_templates, synonyms=False),
    "short": Wording(fill=_fill_short, synonyms=True),
    "as-written": Wording(fill=_fill_as_written, synonyms=True),
    "spaced": Wording(fill=_fill_spaced, synonyms=False),
}
"""Wording by name.

"article" is CLIPSelf's and F-ViT's (articles, underscores to blanks); "short" is FC-CLIP's and ODISE's
("sky-other-merged" is asked for as "sky"); "as-written" is CAT-Seg's and SAN's;
"spaced" is CORA's (underscores to blanks, no more).
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddedVocabulary(Vocabulary):
    """A vocabulary as a detector compares with it; the background is one more row at the end of both tensors.

    Attributes:
        texts_KD: Unit embeddings of the names and of the background, (names + 1, D).
        base_K: Classes that training saw, and the background True, (names + 1,), on the device of the embeddings.
        pictured: Names whose row is made of pictures of the thing, and not of sentences.
    """

    texts_KD: Tensor = field(repr=False, compare=False)
    pictured: frozenset[str] = frozenset()
    base_K: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        Vocabulary.__post_init__(self)
        if len(self.names) + 1 != len(self.texts_KD):
            raise ValueError(
                f"{len(self.names)} names need {len(self.names) + 1} rows with the background's, got "
                f"{len(self.texts_KD)} embeddings"
            )
        seen = [*(not novel for novel in self.is_novel), True]
        object.__setattr__(self, "base_K", torch.tensor(seen, device=self.texts_KD.device))

    def to(self, device: torch.device | str) -> "EmbeddedVocabulary":
        """The same on another device."""
        return replace(self, texts_KD=self.texts_KD.to(device))


@torch.no_grad()
def embed_names(
    clip: DenseCLIP,
    names: Sequence[str],
    *,
    templates: str | Path = "detection",
    wording: str = "article",
    longest: int | None = None,
    cache: bool = True,
    progress: bool = False,
    shown: Mapping[str, Tensor] | None = None,
) -> TextRows:
    """Embeds class names: every sentence normalised, averaged over the sentences, normalised again.

    Source: CLIPSelf, released text embeddings (after ViLD, arXiv:2104.13921).

    Args:
        clip: The model whose text tower speaks.
        names: Class names as the data set spells them.
        templates: A set by name, or a text file with one sentence a line.
        wording: Row of `WORDINGS`.
        longest: Tokens after which a sentence is cut.
        cache: Whether rows are kept in, and taken from, `default_cache_dir()`.
        progress: Whether to show a bar.
        shown: Names that are known by examples, by a unit row (D,) of each, which stands in place of sentences; see
            `backbones.examples.embed_examples`.

    Returns:
        Unit rows in float32 on the model's device: one a name, or one a synonym.

    Raises:
        ValueError: The model has no text tower, there are no names, or a sentence has no place for the name.
    """
    if shown and not isinstance(names, str) and not shown.keys().isdisjoint(names):
        asked = partial(embed_names, clip, templates=templates, wording=wording, longest=longest, cache=cache)
        return _with_shown(names, shown, asked)
    sentences, (spoken, counts) = load_templates(templates), _split(names, wording)
    filled = [WORDINGS[wording].fill(name, sentences) for name in spoken]
    path = _cache_path(clip, filled, longest) if cache else None
    rows = None if path is None else _read(path, len(filled), clip.embed_dim)
    if rows is None:
        each = _embed(clip, filled, longest=longest, progress=progress)
        rows = torch.cat([F.normalize(one.float().mean(1), dim=-1).cpu() for one in each])
        if path is not None:
            _keep(path, rows)
    return TextRows(rows_SD=rows.to(clip.device), counts=counts)


def _with_shown(names: Sequence[str], shown: Mapping[str, Tensor], embed: Callable[[list[str]], TextRows]) -> TextRows:
    """Rows of examples among rows of texts, in the order of the names."""
    typed = [name for name in names if name not in shown]
    if typed:
        log.warning(
            "%d names are shown and %d are words: regions are nearer to pictures than to words, so that what is shown "
            "mostly wins; show all of them to compare like with like", len(names) - len(typed), len(typed),
        )  # fmt: skip
    texts = embed(typed) if typed else None
    spoken = iter(() if texts is None else torch.split(texts.rows_SD, list(texts.counts)))
    parts = [shown[name].float()[None] if name in shown else next(spoken) for name in names]
    device = parts[0].device if texts is None else texts.rows_SD.device
    return TextRows(rows_SD=torch.cat([part.to(device) for part in parts]), counts=tuple(map(len, parts)))


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
    centred: bool = True,
) -> EmbeddedVocabulary:
    """Embeds names and the word "background" with the model's own text tower.

    Args:
        clip: Whose text tower speaks.
        names: Class names; each once, whatever its capitals and underscores.
        base: Names that training saw, compared as they are spoken; others are novel.
        templates: Sentences around the names.
        wording: How names are put into them; row of `WORDINGS`.
        longest: Tokens after which a sentence is cut.
        cache: Whether embeddings are kept on disk.
        texts_KD: Ready embeddings of the names and the background instead, for towers without text.
        examples: Names by a unit row (D,) of pictures of each, beside `names` or in place of their words; see
            `backbones.examples.embed_examples`.
        centred: Whether several examples beside words are laid around the mean of the words; not where pictures are
            asked for in another way than words are.

    Raises:
        ValueError: There are no names, an empty one, or one twice.
    """
    shown = dict(examples or {})
    asked = [name for name in class_names(names) if name not in shown]
    names = [*asked, *shown]
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
        if centred and asked and len(rows) > 1:
            rows = centre_on(rows, texts_KD[:-1])
        texts_KD = torch.cat([texts_KD[:-1], rows, texts_KD[-1:]])
    known = {spoken_name(name) for name in base}
    plain = Vocabulary.of(names, is_novel=[word not in known for word in spoken])
    return EmbeddedVocabulary(**asdict(plain), texts_KD=texts_KD, pictured=frozenset(shown))


def centre_on(shown_SD: Tensor, texts_KD: Tensor) -> Tensor:
    """Lays rows of examples around the mean of rows of texts, as far from it as texts are: nearer to both alike.

    All pictures share what no text has, and the other way round (Liang et al., arXiv:2203.02053): as they are, regions
    are nearer to any example than to any word.

    Args:
        shown_SD: Unit rows of examples, at least two.
        texts_KD: Unit rows of texts.

    Returns:
        Unit rows (S, D).
    """
    middle_D, apart_SD = texts_KD.mean(0), shown_SD - shown_SD.mean(0)
    spread = (texts_KD - middle_D).norm(dim=1).mean() if len(texts_KD) > 1 else apart_SD.norm(dim=1).mean()
    return F.normalize(middle_D + apart_SD * spread / apart_SD.norm(dim=1).mean().clamp(min=1e-6), dim=1)


def embed_sentences(
    clip: DenseCLIP,
    names: Sequence[str],
    *,
    templates: str | Path | Sequence[str],
    wording: str = "as-written",
    shown: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, tuple[int, ...]]:
    """Embeds every name in every sentence, with gradient where the text tower learns; nothing is kept on disk.

    Args:
        clip: The model whose text tower speaks.
        names: Class names.
        templates: A set by name, a text file, or the sentences themselves, each with "{}" for the name.
        wording: Row of `WORDINGS`.
        shown: Names that are known by examples, by a unit row (D,) of each, which is repeated for every sentence.

    Returns:
        Unit rows (S, P, D), one a name or synonym and sentence; and how many rows each class has.

    Raises:
        ValueError: There are no names, one is empty, or the model has no text tower.
    """
    sentences = load_templates(templates) if isinstance(templates, str | Path) else list(templates)
    if shown and not shown.keys().isdisjoint(names):
        typed = [name for name in names if name not in shown]
        texts = embed_sentences(clip, typed, templates=sentences, wording=wording) if typed else None
        given = iter(() if texts is None else torch.split(texts[0], list(texts[1])))
        rows = [
            shown[name].to(clip.device).expand(1, len(sentences), -1) if name in shown else next(given)
            for name in names
        ]
        return torch.cat(rows), tuple(map(len, rows))
    spoken, counts = _split(names, wording)
    filled = [WORDINGS[wording].fill(name, sentences) for name in spoken]
    return torch.cat(list(_embed(clip, filled))), counts


def _split(names: Sequence[str], wording: str) -> tuple[list[str], tuple[int, ...]]:
    """The names that are spoken, and how many of them each class has."""
    names = class_names(names)
    if not names:
        raise ValueError("there are no names to look for; pass at least one, such as names=['cat', 'dog']")
    tell_alike(names)
    apart = pick(WORDINGS, wording, what="wording").synonyms
    split = [split_synonyms(name) if apart else (name,) for name in names]
    return [name for some in split for name in some], tuple(map(len, split))


def _embed(
    clip: DenseCLIP, filled: Sequence[list[str]], *, longest: int | None = None, progress: bool = False
) -> Iterator[Tensor]:
    """Unit rows (names, sentences, D) of a few names after another."""
    count = len(filled[0])
    at_once = max(1, SENTENCES_AT_ONCE // count)
    starts = range(0, len(filled), at_once)
    for start in tqdm(starts, desc="embedding names", disable=not progress, leave=False):
        flat = [sentence for some in filled[start : start + at_once] for sentence in some]
        pieces = range(0, len(flat), SENTENCES_AT_ONCE)
        each = torch.cat([clip.encode_text(flat[row : row + SENTENCES_AT_ONCE], longest=longest) for row in pieces])
        yield each.reshape(-1, count, each.shape[-1])


def average_templates(prompts_TD: Tensor, *, names: int) -> Tensor:
    """Each prompt normalised, averaged over the sentences of a name, normalised again.

    Args:
        prompts_TD: Text embeddings, all sentences of the first name first.
        names: How many names there are.

    Returns:
        (names, D).
    """
    each = F.normalize(prompts_TD, dim=-1).reshape(names, -1, prompts_TD.shape[-1])
    return F.normalize(each.mean(1), dim=-1)


def _cache_path(clip: DenseCLIP, filled: Sequence[Sequence[str]], longest: int | None) -> Path:
    """A file whose name depends on everything that the rows depend on: the tower and what it is asked."""
    cut = [] if longest is None else [longest]
    said = json.dumps([clip.name, clip.identity.text, computation_hash(clip, "text"), list(map(list, filled)), *cut])
    return default_cache_dir() / "text" / f"{hashlib.sha256(said.encode('utf-8')).hexdigest()[:32]}.safetensors"


def _keep(path: Path, rows: Tensor) -> None:
    """Writes the rows, or says that it cannot: the cache saves time and nothing else."""
    try:
        write_atomically(path, lambda part: save_file({"embeddings": rows.contiguous()}, part))
    except OSError as error:
        log.warning(
            "text embeddings are not kept, %s cannot be written (%s); set CLIPSELF_CACHE to a folder that can",
            path.parent, error.strerror or error,
        )  # fmt: skip


def _read(path: Path, count: int, width: int) -> Tensor | None:
    """The kept rows, or None if there are none that are whole."""
    try:
        kept = load_file(path)["embeddings"]
    except Exception:  # no file, or a damaged one, is made anew, whatever is wrong with it
        return None
    return kept if kept.shape == (count, width) and bool(torch.isfinite(kept).all()) else None
