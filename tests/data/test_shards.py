"""Pairs in tar shards, read where they lie."""

import codecs
import io
import json
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipself.data import shards
from clipself.data.images import find_pictures, read_image
from clipself.data.shards import CaptionShards, ShardNames, find_shards, index_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    shards.open_index.cache_clear()


def picture(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (6, 4), (shade, 0, 0)).save(stream, format="PNG")
    return stream.getvalue()


def write(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as held:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            held.addfile(member, io.BytesIO(data))
    return path


def test_members_of_one_name_are_a_pair(tmp_path: Path) -> None:
    said = json.dumps({"caption": "the json", "width": 3}).encode()
    shard = write(
        tmp_path / "0.tar",
        {
            "a/1.png": picture(1), "a/1.json": said, "a/1.txt": b" the text \n",  # the text file counts
            "a/2.PNG": picture(2), "a/2.json": codecs.BOM_UTF8 + said,  # as editors of Windows begin a file
            "a/3.png": picture(3), "a/4.txt": b"of no picture", "b/4.png": picture(4), "b/4.cls": b"7",
            "b/5.v2.png": picture(5), "b/5.txt": b"suffixes begin at the first dot",
        },
    )  # fmt: skip
    source = CaptionShards([shard])
    assert list(source.names) == ["0.tar/0", "0.tar/1"]
    (one, first), (two, second) = source.read(0), source.read(1)
    assert (list(first), list(second)) == (["the text"], ["the json"])
    assert (np.asarray(one)[0, 0].tolist(), np.asarray(two)[0, 0].tolist()) == ([1, 0, 0], [2, 0, 0])


def test_the_order_mixes_shards_and_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "WINDOW", 4)
    made = [
        write(tmp_path / f"{shard}.tar", {f"{n}.{kind}": picture(n) if kind == "png" else b"x" for n in range(10)
              for kind in ("png", "txt")})
        for shard in range(3)
    ]  # fmt: skip
    source = CaptionShards(find_shards(tmp_path))
    assert find_shards(tmp_path) == made
    order = list(source.order("0/0"))
    assert sorted(order) == list(range(30))
    assert order != sorted(order)
    for place, index in enumerate(order):  # never read far ahead: a window and no more
        shard = [one // 10 for one in order].index(index // 10) // 10
        assert abs(place - (10 * shard + index % 10)) < 30
    assert source.names[29] == "2.tar/9"
    assert list(source.names[8:12]) == ["0.tar/8", "0.tar/9", "1.tar/0", "1.tar/1"]
    with pytest.raises(IndexError, match="pair 30 of 30"):
        source.names[30]


def test_the_index_is_made_once_and_follows_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = write(tmp_path / "0.tar", {"1.png": picture(1), "1.txt": b"one"})
    assert len(CaptionShards([shard]).names) == 1
    with monkeypatch.context() as patch:
        patch.setattr(shards, "index_of", lambda path: pytest.fail("read again"))
        assert len(CaptionShards([shard]).names) == 1
    write(shard, {"1.png": picture(1), "1.txt": b"one", "2.png": picture(2), "2.txt": b"two and longer"})
    assert len(CaptionShards([shard]).names) == 2


def test_memory_does_not_grow_with_the_pairs(tmp_path: Path) -> None:
    """Names are made when asked for, and the index lies on the disk."""
    names = ShardNames(shards=("a.tar", "b.tar"), ends=(10**9, 2 * 10**9))
    tracemalloc.start()
    assert len(names) == 2 * 10**9
    assert names[10**9 + 5] == "b.tar/5"
    held = {f"{n}.{kind}": b"x" for n in range(3000) for kind in ("png", "txt")}
    shard = write(tmp_path / "0.tar", held)
    del held
    index_of(shard)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    rows = index_of(shard)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert len(rows) == 3000
    assert peak < 1_200_000  # rows alone; 6000 headers that tarfile would keep are several megabytes
    index = shards.open_index(str(shard))
    assert isinstance(index, np.memmap)


def test_damaged_shards_are_named(tmp_path: Path) -> None:
    (tmp_path / "no.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(ValueError, match=r"no\.tar cannot be read as an uncompressed tar"):
        CaptionShards([tmp_path / "no.tar"])
    empty = write(tmp_path / "empty.tar", {"1.png": picture(1)})
    with pytest.raises(ValueError, match="hold no pair of a picture"):
        CaptionShards([empty])
    bad = write(tmp_path / "bad.tar", {"1.png": b"no picture", "1.txt": b"one", "2.png": picture(2), "2.txt": b" "})
    with pytest.raises(ValueError, match=r"bad\.tar/0 is damaged"):
        CaptionShards([bad]).read(0)
    with pytest.raises(ValueError, match=r"bad\.tar/1 has no caption"):
        CaptionShards([bad]).read(1)
    with pytest.raises(FileNotFoundError, match=r"no \.tar shards at"):
        find_shards(tmp_path / "none.tar")


def test_absolute_names_lie_in_their_shard(tmp_path: Path) -> None:
    """As unpacking has it, which strips the slash: no file of this machine is meant."""
    write(tmp_path / "0.tar", {"/etc/a.png": picture(7), "b.png": picture(9)})
    found = list(find_pictures(tmp_path / "0.tar"))
    assert [one.file for one in found] == ["0.tar/b.png", "0.tar/etc/a.png"]
    assert [np.asarray(read_image(one.path))[0, 0, 0] for one in found] == [9, 7]
