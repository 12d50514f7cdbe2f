"""Tar shards behind addresses: what shards on the disk give, from a cache that is bounded or from where they lie."""

import http.server
import io
import logging
import re
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.pictures import draw_pictures, pack
from tests.support.tiny import tiny_openai_clip
from torch.utils.data import DataLoader, Dataset

from clipself.backbones.export import save_clip
from clipself.data.caption_pairs import open_captions
from clipself.data.images import find_pictures, read_image, remote, size_of
from clipself.data.images.shard_files import expand
from clipself.data.images.shards import picture_index
from clipself.data.sources import ImageFolder
from clipself.engine.callbacks import Progress
from clipself.engine.log import read_metrics

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "PAUSES", (0.0, 0.0))
    forget()
    yield tmp_path / "cache/remote"
    memory = fsspec.filesystem("memory")
    memory.store.clear()


def forget() -> None:
    picture_index.cache_clear()
    remote.remote_of.cache_clear()


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three shards on the disk, and the same in memory://bucket."""
    made = pack(draw_pictures(tmp_path / "pictures", 10), tmp_path / "shards")
    for path in made.iterdir():
        fsspec.filesystem("memory").pipe(f"/bucket/{path.name}", path.read_bytes())
    return made


def assert_same(one: ImageFolder, two: ImageFolder) -> None:
    assert list(one.names) == list(two.names)
    for first, second in zip(one.paths, two.paths, strict=True):
        assert np.array_equal(np.asarray(read_image(first)), np.asarray(read_image(second)))
        assert size_of(first) == size_of(second)


@pytest.mark.parametrize("pattern", ["*.tar", "{00..02}.tar", "{00,01,02}.tar"])
def test_they_are_the_shards_on_the_disk(pattern: str, shards: Path, cache: Path) -> None:
    address = f"memory://bucket/{pattern}"
    assert_same(ImageFolder(address), ImageFolder(shards / "*.tar"))
    assert_same(ImageFolder(Path(address)), ImageFolder(shards / "*.tar"))  # which leaves one slash
    assert len(list(cache.glob("*/*.tar"))) == 3
    found = find_pictures(address)
    assert [one.file for one in found] == [one.file for one in find_pictures(shards / "*.tar")]
    assert [one.name for one in found][:2] == ["00.tar/0", "00.tar/1"]
    assert np.array_equal(np.asarray(found.pictures[7].read()), np.asarray(read_image(found.paths[7])))


def test_what_finds_no_room_is_read_where_it_lies(
    shards: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    size = (shards / "00.tar").stat().st_size
    monkeypatch.setenv("CLIPSELF_REMOTE_GB", str(1.5 * size / 2**30))
    monkeypatch.setattr(remote, "BUFFER", 700)  # indexes are read in many parts
    assert_same(ImageFolder("memory://bucket/*.tar"), ImageFolder(shards / "*.tar"))
    assert len(list(cache.glob("*/*.tar"))) == 1
    assert "2 of 3 remote shards find no room" in caplog.text
    assert "CLIPSELF_REMOTE_GB" in caplog.text
    monkeypatch.setenv("CLIPSELF_REMOTE_GB", "much")
    with pytest.raises(ValueError, match="CLIPSELF_REMOTE_GB=much is no number of gigabytes"):
        ImageFolder("memory://bucket/*.tar")


def test_a_copy_that_gives_way_leaves_its_pictures_readable(
    shards: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ImageFolder("memory://bucket/{00..01}.tar")
    monkeypatch.setenv("CLIPSELF_REMOTE_GB", str(2.5 * (shards / "00.tar").stat().st_size / 2**30))
    fsspec.filesystem("memory").pipe("/other/one.tar", (shards / "01.tar").read_bytes())
    assert len(ImageFolder("memory://other/one.tar")) == 4
    assert len(list(cache.glob("*/*.tar"))) == 2  # one of the first run's has gone
    forget()
    for path in first.paths:
        read_image(path)


def test_a_copy_follows_what_it_is_a_copy_of(shards: Path, cache: Path) -> None:
    memory = fsspec.filesystem("memory")
    assert len(ImageFolder("memory://bucket/02.tar")) == 2
    before = [path.stat().st_mtime_ns for path in cache.glob("*/*.tar")]
    assert len(ImageFolder("memory://bucket/02.tar")) == 2
    assert [path.stat().st_mtime_ns for path in cache.glob("*/*.tar")] == before  # brought once
    memory.pipe("/bucket/02.tar", (shards / "01.tar").read_bytes())
    assert len(ImageFolder("memory://bucket/02.tar")) == 4


def test_nothing_half_written_stays(shards: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory: Any = type(fsspec.filesystem("memory"))

    def broken(self: Any, path: str, part: str) -> None:
        Path(part).write_bytes(b"half")

    with monkeypatch.context() as patch:
        patch.setattr(memory, "get_file", broken)
        with pytest.raises(ConnectionError, match=r"00\.tar cannot be read \(4 of \d+ bytes came\); check the address"):
            ImageFolder("memory://bucket/00.tar")
    assert [path.name for path in cache.rglob("*") if path.is_file()] == [".lock", "00.tar.json"]
    assert len(ImageFolder("memory://bucket/00.tar")) == 4


def test_what_cannot_be_read_is_said(shards: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no shards at memory:///bucket/03\.tar; check the address"):
        ImageFolder("memory://bucket/{00..03}.tar")
    with pytest.raises(FileNotFoundError, match=r"no shards at memory://nowhere/\*\.tar"):
        expand("memory://nowhere/*.tar")
    with pytest.raises(ValueError, match=r"Protocol not known: carrier-pigeon\); copy it here and pass its path"):
        ImageFolder("carrier-pigeon://roof/0.tar")
    with pytest.raises(ImportError, match=r"Install \w+ to access .*; pip install 'clipself\[remote\]'"):
        ImageFolder("oci://bucket/0.tar")
    with pytest.raises(ValueError, match="is an address; download the file"):
        find_pictures("memory://bucket/a.jpg")


def test_a_network_that_fails_later_does_not_change_what_a_run_sees(
    shards: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damaged pictures are passed over; those that cannot be had right now must not be."""
    images = ImageFolder("memory://bucket/00.tar")
    next(cache.glob("*/*.tar")).unlink()
    asked = list[int]()

    def fail(self: Any, path: str, **given: Any) -> bytes:
        asked.append(1)
        raise TimeoutError("no answer")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", fail)
    with pytest.raises(ConnectionError, match=r"00\.tar cannot be read \(no answer\)"):
        read_image(images.paths[0])
    assert len(asked) == 3
    monkeypatch.undo()
    fsspec.filesystem("memory").store.clear()
    monkeypatch.setenv("CLIPSELF_CACHE", str(cache.parent))
    with pytest.raises(ConnectionError, match="it was there when the shards were listed"):
        read_image(images.paths[0])


class Served(http.server.SimpleHTTPRequestHandler):
    """Files, and parts of them where it is asked to."""

    ranges = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def send_head(self) -> Any:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if asked is None or not self.ranges or not path.is_file():
            return super().send_head()
        first, last = int(asked[1]), min(int(asked[2]), path.stat().st_size - 1)
        self.send_response(206)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Content-Range", f"bytes {first}-{last}/{path.stat().st_size}")
        self.end_headers()
        self.wfile.write(path.read_bytes()[first : last + 1])
        return None


@pytest.fixture
def site(shards: Path) -> Iterator[str]:
    pytest.importorskip("aiohttp", reason="fsspec reads https by aiohttp, which is not installed")

    def serve(*given: Any) -> Served:
        return Served(*given, directory=str(shards))

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_of_a_web_server_too(site: str, shards: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    assert_same(ImageFolder(f"{site}/{{00..02}}.tar"), ImageFolder(shards / "*.tar"))
    assert len(list(cache.glob("*/*.tar"))) == 3
    images = ImageFolder(f"{site}/*.tar")  # by the links of its page
    assert_same(images, ImageFolder(shards / "*.tar"))
    for copy in cache.glob("*/*.tar"):
        copy.unlink()
    forget()
    assert_same(images, ImageFolder(shards / "*.tar"))
    with pytest.raises(FileNotFoundError, match=r"no shards at http.*/07\.tar"):
        ImageFolder(f"{site}/07.tar")
    monkeypatch.setattr(Served, "ranges", False)
    with pytest.raises(ConnectionError, match="its server gives whole files only; let CLIPSELF_REMOTE_GB have room"):
        read_image(images.paths[0])


@pytest.fixture
def bucket(shards: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The same shards in a bucket of a server on this machine."""
    s3fs = pytest.importorskip("s3fs", reason="fsspec reads s3:// by s3fs, which is not installed")
    moto = pytest.importorskip("moto.server", reason="moto[server], which answers as S3 does, is not installed")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    said = {"ENDPOINT_URL": f"http://{host}:{port}", "ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret"}
    for name, value in {**said, "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)  # where s3fs looks for them
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem(skip_instance_cache=True)
    system.mkdir("bucket")
    for path in shards.iterdir():
        system.pipe(f"bucket/train/{path.name}", path.read_bytes())
    yield "s3://bucket/train"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.mark.slow
def test_of_a_bucket_too(bucket: str, shards: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for pattern in ("*.tar", "{00..02}.tar"):
        assert_same(ImageFolder(f"{bucket}/{pattern}"), ImageFolder(shards / "*.tar"))
    assert len(list(cache.glob("*/*.tar"))) == 3
    images = ImageFolder(f"{bucket}/*.tar")
    for copy in cache.glob("*/*.tar"):
        copy.unlink()
    forget()
    assert_same(images, ImageFolder(shards / "*.tar"))  # part by part
    wanted = [read_image(path).size for path in images.paths]
    loader = DataLoader(Sizes(images), batch_size=5, num_workers=1, timeout=60)
    assert [tuple(size) for batch in loader for size in batch.tolist()] == wanted
    with pytest.raises(FileNotFoundError, match=r"no shards at s3://bucket/train/07\.tar"):
        ImageFolder(f"{bucket}/07.tar")
    s3fs = pytest.importorskip("s3fs")
    system = s3fs.S3FileSystem(skip_instance_cache=True)
    system.pipe("bucket/train/02.tar", (shards / "01.tar").read_bytes())
    assert len(ImageFolder(f"{bucket}/02.tar")) == 4  # by its new ETag
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(ConnectionError, match=r"s3://bucket/train/00\.tar cannot be read"):
        ImageFolder(f"{bucket}/00.tar")


class Sizes(Dataset[torch.Tensor]):
    """Of pictures, by the processes of a loader."""

    def __init__(self, images: ImageFolder) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(read_image(self.images.paths[index]).size)


def test_workers_read_where_they_lie(site: str, shards: Path, cache: Path) -> None:
    """Threads of fsspec do not live on in a process that was forked."""
    images = ImageFolder(f"{site}/{{00..02}}.tar")
    for copy in cache.glob("*/*.tar"):
        copy.unlink()
    wanted = [read_image(path).size for path in images.paths]
    loader = DataLoader(Sizes(images), batch_size=5, num_workers=1, timeout=60)
    assert [tuple(size) for batch in loader for size in batch.tolist()] == wanted


def test_captions_come_from_them_too(shards: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as held:
        for number in range(3):
            for suffix, data in (
                (".png", (shards.parent / f"pictures/{number}.png").read_bytes()),
                (".txt", b"a block"),
            ):
                member = tarfile.TarInfo(f"{number}{suffix}")
                member.size = len(data)
                held.addfile(member, io.BytesIO(data))
    fsspec.filesystem("memory").pipe("/captions/0.tar", stream.getvalue())
    source = open_captions("memory://captions/*.tar", None)
    assert list(source.names) == ["0.tar/0", "0.tar/1", "0.tar/2"]
    assert [(source.read(row)[0].size, list(source.read(row)[1])) for row in (0, 2)] == [
        ((80, 60), ["a block"]), ((84, 66), ["a block"])
    ]  # fmt: skip


def test_a_run_on_them_is_the_run_on_the_folder(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clipself.distillation.train import distill

    model = save_clip(tiny_openai_clip(layers=2), tmp_path / "clip")
    settings: dict[str, Any] = {
        "model": str(model), "image_size": 64, "max_regions": 4, "max_steps": 3, "batch_size": 2, "precision": "fp32",
        "device": "cpu", "keep_image": 1.0, "save_every": 1,
    }  # fmt: skip
    distill(out=tmp_path / "folder", data=tmp_path / "pictures", workers=0, **settings)
    monkeypatch.setenv("CLIPSELF_REMOTE_GB", str(1.5 * (shards / "00.tar").stat().st_size / 2**30))
    out = tmp_path / "remote"

    def end_early(now: Progress) -> None:
        if now.step == 2:
            now.stop()

    distill(out=out, data="memory://bucket/{00..02}.tar", workers=0, on_step=end_early, **settings)
    monkeypatch.chdir(tmp_path / "clip")  # an address is no path below the present folder
    distill(out=out, resume=True)
    assert [r["loss"] for r in read_metrics(out)] == [r["loss"] for r in read_metrics(tmp_path / "folder")]
    first, second = (torch.load(one / "training_state.pt", weights_only=True) for one in (out, tmp_path / "folder"))
    assert all(map(torch.equal, first["learning"], second["learning"]))
