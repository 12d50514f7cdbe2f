"""Words for the text tower and the space they live in: names, glosses, captions, embedded by the sentence encoder."""

import json
import random
import re
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from pool import captions_of, pool_names
from teachers import SentenceEncoder
from torch import Tensor

from clipself.data.scenes.textures import STUFF

JOINT = 256
"""Width of the joint space."""

VISIBLE = {"05", "06", "08", "13", "15", "17", "18", "19", "20", "27"}
"""WordNet's lexicographer files of things that can be seen: animals, artefacts, bodies, food, places, ..."""

TEMPLATES = (
    "{}", "{}", "{}", "a {}", "the {}", "a photo of a {}", "a photo of the {}", "a photo of {}",
    "a picture of a {}",
    "there is a {} in the scene", "this is a {}", "a small {}", "a large {}", "a close-up photo of a {}",
    "a cropped photo of a {}", "a drawing of a {}", "a blurry photo of a {}", "a bright photo of the {}",
    "a low resolution photo of a {}", "this is a photo of a {}", "itap of a {}", "one {}", "many {}",
    "a {} in the scene",
)  # fmt: skip
"""Sentences around a name; all are taught to mean the name itself, so that templates do no harm."""


def wordnet_nouns(folder: Path = Path("/usr/share/wordnet")) -> tuple[list[str], list[tuple[str, str]]]:
    """Lemmas of visible things, and (lemma, gloss) pairs; WordNet 3.0, free licence, Debian's `wordnet-base`."""
    lemmas: list[str] = []
    glosses: list[tuple[str, str]] = []
    for line in (folder / "data.noun").read_text(encoding="latin-1").splitlines():
        if line.startswith("  ") or line[9:11] not in VISIBLE:
            continue
        head, _, gloss = line.partition("|")
        fields = head.split()
        words = [fields[4 + 2 * place].replace("_", " ") for place in range(int(fields[3], 16))]
        plain = [word.lower() for word in words if re.fullmatch(r"[A-Za-z' -]{2,40}", word)]
        lemmas += plain
        meaning = gloss.split(";")[0].split('"')[0].strip()
        if plain and 8 < len(meaning) < 90:
            glosses.append((plain[0], meaning))
    return sorted(set(lemmas)), glosses


def listed_names(data: Path) -> list[str]:
    """Every class name of the vocabularies, the labelled pictures and the art, lower-case."""
    names: set[str] = {name.lower() for name in IMAGENET_CLASSNAMES}
    for path in (data / "text_embeddings").glob("*.json"):
        held = json.loads(path.read_text())
        if isinstance(held, list):
            names |= {plain_name(row["name"] if isinstance(row, dict) else str(row)) for row in held}
    lines = (data / "pretrain_images/index.tsv").read_text(encoding="utf-8").splitlines()[1:]
    names |= {line.split("\t")[3].split(",")[0].strip().lower() for line in lines}
    things = Path(__file__).parents[1] / "scenes/things.txt"
    names |= {line.split("\t")[0] for line in things.read_text(encoding="utf-8").splitlines() if "\t" in line}
    names |= set(STUFF) | pool_names(data)
    return sorted(names)


def plain_name(name: str) -> str:
    """Underscores to blanks, LVIS's bracketed senses and COCO's "-other", "-merged", "-stuff" cut off."""
    name = re.sub(r"_?\(.*?\)", "", name).replace("_", " ").lower()
    return re.sub(r"-(other|merged|stuff|other-merged)$", "", name.removesuffix("-merged")).strip()


class TextSpace:
    """Sentence embeddings, centred on the mean noun and turned to their main axes: (K, 384) -> unit (K, 256)."""

    def __init__(self, mean: Tensor, axes: Tensor) -> None:
        self.mean, self.axes = mean, axes

    @classmethod
    def fit(cls, sentences_K384: Tensor) -> "TextSpace":
        """Mean and principal axes of many names; an axis points to where its largest entry is positive."""
        mean = sentences_K384.mean(0)
        centred = (sentences_K384 - mean).double()
        _, axes = torch.linalg.eigh(centred.T @ centred)  # ascending
        axes = axes[:, -JOINT:].flip(1)
        axes = axes * axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()
        return cls(mean, axes.float())

    def __call__(self, sentences_K384: Tensor) -> Tensor:
        """Unit vectors of the joint space."""
        return F.normalize((sentences_K384 - self.mean) @ self.axes, dim=-1)


def build_phrases(data: Path, work: Path, *, nouns: int = 40_000, meanings: int = 14_000) -> Path:
    """Embeds all phrases once and stores them with the space, in `phrases.pt`.

    Unseen phrases for the model card are kept apart: every 97th lemma never enters training.
    """
    path = work / "phrases.pt"
    if path.exists():
        return path
    lemmas, glosses = wordnet_nouns()
    unseen = lemmas[::97]
    pool = [lemma for place, lemma in enumerate(lemmas) if place % 97]
    rng = random.Random(0)
    names = listed_names(data)
    known = set(names)
    extra = [lemma for lemma in rng.sample(pool, min(nouns, len(pool))) if lemma not in known]
    captions = sorted({text for held in captions_of(data).values() for text in held})
    sentences = captions + [meaning for _, meaning in rng.sample(glosses, min(meanings, len(glosses)))]
    encoder = SentenceEncoder()
    vectors = {"names": encoder(names), "extra": encoder(extra), "sentences": encoder(sentences)}
    space = TextSpace.fit(torch.cat([vectors["names"], vectors["extra"]]))
    torch.save(
        {
            "texts": {"names": names, "extra": extra, "sentences": sentences},
            "vectors": {key: space(value).half() for key, value in vectors.items()},
            "mean": space.mean,
            "axes": space.axes,
            "captions": len(captions),
            "unseen": unseen,
        },
        path,
    )
    return path


def load_space(work: Path) -> TextSpace:
    """The space that `build_phrases` fitted."""
    held = torch.load(work / "phrases.pt", weights_only=True)
    return TextSpace(held["mean"], held["axes"])


def vectors_of(names: Iterable[str], work: Path) -> Tensor:
    """Joint-space targets (K, 256) of names that the phrases hold."""
    held = torch.load(work / "phrases.pt", weights_only=True)
    place = {name: index for index, name in enumerate(held["texts"]["names"])}
    return held["vectors"]["names"][[place[name.lower()] for name in names]].float()


def caption_vectors(work: Path) -> tuple[list[str], Tensor]:
    """Every caption and its joint-space vector (C, 256)."""
    held = torch.load(work / "phrases.pt", weights_only=True)
    count = held["captions"]
    return held["texts"]["sentences"][:count], held["vectors"]["sentences"][:count].float()


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    print(build_phrases(options.data, options.work))
