"""Files on a bad day: disks that are full whoever writes, locks, what dead writers leave, long names."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from clipself.files import (
    AT_ONCE,
    Together,
    _umask,
    allocate,
    clear_parts,
    locked,
    read_json,
    write_atomically,
    write_text,
)

WRITERS = {
    "bytes": "write_bytes(path, bytes(4_000_000))",
    "torch": "save_state(path, {'weights': torch.zeros(1_000_000)})",
    "safetensors": "write_atomically(path, lambda part: save_file({'weights': torch.zeros(1_000_000)}, part))",
    "map": "allocate(path, 4_000_000)",
}
CODE = """
import resource, signal, sys
import torch
from pathlib import Path
from safetensors.torch import save_file
from clipself.engine.checkpoint import save_state
from clipself.files import allocate, write_atomically, write_bytes
path = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    {}
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_does_not_fit_is_said_in_one_sentence(writer: str, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    if writer != "map":
        path.write_text("before")
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(WRITERS[writer]), str(path)], capture_output=True, text=True, check=True
    )
    assert "no space left" in done.stdout
    assert str(path) in done.stdout
    if writer != "map":
        assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir() if entry.suffix == ".part"] == []


@pytest.mark.parametrize(
    "said",
    [
        "[enforce fail at inline_container.cc:672] . unexpected pos 2133888 vs 2133776",
        "PytorchStreamWriter failed writing file data/0: file write failed",
        "Error while serializing: I/O error: No space left on device (os error 28)",
    ],
)
def test_what_libraries_say_of_a_full_disk(said: str, tmp_path: Path) -> None:
    def write(part: Path) -> None:
        raise RuntimeError(said)

    with pytest.raises(OSError, match=r"no space left to write .*a\.pt .*what was there before is untouched") as told:
        write_atomically(tmp_path / "a.pt", write)
    assert told.value.errno == errno.ENOSPC


def test_other_faults_of_a_writer_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="contiguous"):
        write_atomically(tmp_path / "a", lambda part: save_file({"w": torch.zeros(4, 4).T}, part))
    assert list(tmp_path.iterdir()) == []


def test_files_together_have_their_names_once_all_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk, named = set[int](), list[bool]()
    sync, replace = os.fsync, os.replace

    def look(stream: int) -> None:
        sync(stream)
        on_disk.add(os.fstat(stream).st_ino)

    def name(part: Path, path: Path) -> None:
        named.append(part.stat().st_ino in on_disk and len(on_disk) in (AT_ONCE, AT_ONCE + 3))
        replace(part, path)

    monkeypatch.setattr(os, "fsync", look)
    monkeypatch.setattr(os, "replace", name)
    with Together() as files:
        for number in range(AT_ONCE + 3):
            files.write_text(tmp_path / str(number % 2) / f"{number}.txt", f"{number}")
            there = {path.name for path in tmp_path.rglob("*.txt")}
            assert len(there) == (0 if number + 1 < AT_ONCE else AT_ONCE)
    assert named == [True] * (AT_ONCE + 3)
    assert {path.name: path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == {
        f"{number}.txt": f"{number}" for number in range(AT_ONCE + 3)
    }
    assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.rglob("*.txt")} == {oct(0o666 & ~_umask())}


def test_of_files_together_those_written_whole_outlive_a_fault_of_the_next(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").write_text("old")

    def half(part: Path) -> None:
        part.write_text("ne")
        raise KeyboardInterrupt

    def write_both() -> None:
        with Together() as files:
            files.write_text(tmp_path / "a", "new")
            assert (tmp_path / "a").read_text() == "old"
            files.write(tmp_path / "b", half)

    with pytest.raises(KeyboardInterrupt):
        write_both()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "old"}


@pytest.mark.parametrize("at", ["fsync", "replace"])
def test_files_together_on_a_disk_that_fills(at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = getattr(os, at), list[Any]()

    def fail_later(*given: Any) -> None:
        calls.append(given)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*given)

    monkeypatch.setattr(os, at, fail_later)
    for number in range(4):
        (tmp_path / f"{number}").write_text("old")
    files = Together()
    for number in range(4):
        files.write_text(tmp_path / f"{number}", "new")
    with pytest.raises(OSError, match=r"no space left to write .* what was there before is untouched"):
        files.flush()
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {f"{number}": "new" if at == "replace" and number < 2 else "old" for number in range(4)}


def test_names_as_long_as_the_disk_allows(tmp_path: Path) -> None:
    for name in ("a" * 250 + ".txt", "ä" * 125 + ".txt"):
        assert write_text(tmp_path / name, "text").read_text() == "text"


def test_names_that_are_no_text_are_written_as_json_escapes_them(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")  # from a disk that was written in Latin-1
    held = json.dumps({"file": name, "class": "été"}, ensure_ascii=False)
    write_text(tmp_path / "a.json", held)
    with Together() as files:
        files.write_text(tmp_path / "b.json", held)
    for path in (tmp_path / "a.json", tmp_path / "b.json"):
        assert json.loads(path.read_text("utf-8")) == {"file": name, "class": "été"}


def test_a_map_is_truly_there(tmp_path: Path) -> None:
    allocate(tmp_path / "deep" / "map", 100_000)
    stat = (tmp_path / "deep" / "map").stat()
    assert stat.st_size == 100_000
    assert stat.st_blocks * 512 >= 100_000  # a sparse file would end a process where the disk is full
    allocate(tmp_path / "deep" / "map", 10)
    assert (tmp_path / "deep" / "map").stat().st_size == 100_000


def test_parts_are_cleared(tmp_path: Path) -> None:
    for name in (".a.pt.xyz.part", "deep/.b.pt.abc.part", "kept.part", "deep/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    clear_parts(tmp_path)
    assert {path.name for path in tmp_path.rglob("*")} == {"deep", "kept.part", ".hidden"}


def test_a_lock_is_free_again_after_it(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path / "deep" / ".lock", busy="busy"):
            assert (tmp_path / "deep" / ".lock").exists()


def test_a_key_that_says_two_things_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"rows": [{"id": 1, "id": 1, "name": "cat"}]}')
    assert read_json(path) == {"rows": [{"id": 1, "name": "cat"}]}
    seen: list[dict[str, int]] = []
    path.write_text('{"rows": [{"a": 1}], "b": {"a": 2}}')
    read_json(path, hook=seen.append)
    assert seen[:2] == [{"a": 1}, {"a": 2}]
    for text in ('{"annotations": [1], "annotations": []}', '[{"id": 1}, {"id": 2, "x": {}, "id": 3}]'):
        path.write_text(text)
        for hook in (None, dict):
            with pytest.raises(ValueError, match=r"a\.json: in one of its objects '(annotations|id)' is set twice"):
                read_json(path, hook=hook)
