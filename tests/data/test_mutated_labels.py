"""Seeded faults in captions, labels of pictures, tags, shards and labels of other tools: read, or a sentence."""

import io
import json
import random
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from PIL import Image
from tests.support.mutate import mutated_json

from clipself.data import shards
from clipself.data.caption_pairs import open_captions
from clipself.data.detection import CocoDetection
from clipself.data.image_labels import read_image_labels
from clipself.data.labels.formats import LABEL_FORMATS
from clipself.data.labels.objects import Export, LabelledObject, LabelledPicture
from clipself.detection.evaluate import read_synonyms
from clipself.detection.pseudo_boxes import read_tags

IMAGES = [{"id": row, "file_name": f"{name}.png", "width": 8, "height": 6} for row, name in enumerate("ab")]
CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
CAPTIONS = [{"id": row, "image_id": row, "caption": f"a cat and {row} dogs"} for row in (0, 1)]
DETIC = [{**image, "pos_category_ids": [1 + row]} for row, image in enumerate(IMAGES)]


def _pairs(path: Path) -> None:
    source = open_captions(path, path.parent)
    for index in range(len(source.names)):
        _, said = source.read(index)
        assert said
        assert all(isinstance(one, str) and one.strip() for one in said)


def _labels(path: Path) -> None:
    held = read_image_labels(path, path.parent, known=["cat"])
    assert all(0 <= label < len(held.names) for some in held.labels for label in some)


def _boxes(path: Path) -> None:
    data = CocoDetection(path, Path.cwd(), train=False)
    assert all(len(data.labels(index)) == len(data.boxes(index)) for index in range(len(data.ids)))


JSON: Final[Mapping[str, tuple[Any, Callable[[Path], object]]]] = {
    "captions": ({"images": IMAGES, "annotations": CAPTIONS}, _pairs),
    "labels by captions": ({"images": IMAGES, "annotations": CAPTIONS}, _labels),
    "labels by Detic": ({"images": DETIC, "categories": CATEGORIES}, _labels),
    "tags": ({"a.png": ["cat", "dog"], "b.png": []}, read_tags),
    "synonyms": ({"cat": "kitty", "dog": "hound"}, lambda path: read_synonyms(path, ["cat", "dog"])),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        Image.new("RGB", (8, 6)).save(tmp_path / f"{name}.png")
    return tmp_path


def judge(read: Callable[[Path], object], path: Path, what: str) -> bool:
    """Whether it was read; what users cause is told in a sentence that names a file."""
    try:
        read(path)
    except (ValueError, OSError) as fault:
        said = str(fault)
        names = (path.name, path.parent.name, ".png", "/etc/passwd")  # the last stands where a picture's file should
        assert any(name in said for name in names), f"{what}: {said}"
        assert len(said) < 1000, what
        return False
    except Exception as error:
        pytest.fail(f"{what}: {type(error).__name__}: {error}")
    return True


MANY = [pytest.param(40, id="some"), pytest.param(600, id="many", marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", MANY)
@pytest.mark.parametrize("kind", sorted(JSON))
def test_json_is_read_or_refused_by_name(kind: str, count: int, folder: Path) -> None:
    value, read = JSON[kind]
    path, rng = folder / "labels.json", random.Random(f"{kind} {count}")
    path.write_text(json.dumps(value))
    assert judge(read, path, "untouched")
    outcomes = []
    for _ in range(count):
        what, data = mutated_json(value, rng)
        path.write_bytes(data)
        outcomes.append(judge(read, path, what))
    assert not all(outcomes)


@pytest.mark.parametrize("count", MANY)
@pytest.mark.parametrize("form", sorted(set(LABEL_FORMATS) - {"coco"}))
def test_labels_of_other_tools_are_read_or_refused_by_name(form: str, count: int, folder: Path) -> None:
    objects = (LabelledObject(label=0, box=(1, 1, 4, 5), score=0.5), LabelledObject(label=1, box=(2, 0, 8, 3)))
    pictures = [
        LabelledPicture(file=f"{name}.png", path=folder / f"{name}.png", size=(6, 8), objects=objects) for name in "ab"
    ]
    made = LABEL_FORMATS[form](Export(names=("cat", "dog"), pictures=pictures), folder / "out")
    assert judge(_boxes, made, "untouched")
    files = sorted(path for path in (folder / "out").rglob("*") if path.suffix in {".txt", ".json", ".xml", ".yaml"})
    rng, outcomes = random.Random(f"{form} {count}"), []
    for _ in range(count):
        path = rng.choice(files)
        before = path.read_bytes()
        what, data = _spoil(before, rng) if path.suffix != ".json" else mutated_json(json.loads(before), rng)
        path.write_bytes(data)
        outcomes.append(judge(_boxes, made, f"{path.name}: {what}"))
        path.write_bytes(before)
    assert not all(outcomes)


@pytest.mark.parametrize("count", MANY)
@pytest.mark.parametrize("kind", ["table", "shard"])
def test_tables_and_shards_are_read_or_refused_by_name(kind: str, count: int, folder: Path) -> None:
    path = folder / ("pairs.tsv" if kind == "table" else "pairs.tar")
    if kind == "table":
        path.write_text("a.png\ta cat\nb.png\ta dog\n")
    else:
        with tarfile.open(path, "w") as held:
            members = {f"{name}.png": (folder / f"{name}.png").read_bytes() for name in "ab"}
            members |= {"a.txt": b"a cat", "b.json": json.dumps({"caption": "a dog"}).encode()}
            for name, data in sorted(members.items()):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                held.addfile(member, io.BytesIO(data))
    whole, rng = path.read_bytes(), random.Random(f"{kind} {count}")
    assert judge(_pairs, path, "untouched")
    for _ in range(count):
        what, data = _spoil(whole, rng)
        path.write_bytes(data)
        shards.open_index.cache_clear()
        judge(_pairs, path, what)


def _spoil(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """(what was done, the bytes) of one fault: cut, some bytes changed, a word exchanged, nothing left."""
    broken, kind = bytearray(data), rng.random()
    if kind < 0.2:
        cut = rng.randrange(len(data))
        return f"cut at {cut}", data[:cut]
    if kind < 0.6:
        spots = [rng.randrange(len(data)) for _ in range(rng.choice((1, 3, 20)))]
        for spot in spots:
            broken[spot] = rng.randrange(256)
        return f"other bytes at {spots}", bytes(broken)
    words = data.split()
    word, new = (
        rng.choice(words),
        rng.choice((b"", b"nan", b"-1", b"1e999", b"\xff\xfe", b"9" * 20, b"x")),
    )
    return f"{word[:30]!r} is {new!r}", data.replace(word, new, 1)
