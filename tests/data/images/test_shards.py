"""Pictures in tar shards: what a folder of them gives, read in place."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.pictures import draw_pictures, pack, write_coco
from tests.support.tiny import tiny_openai_clip

from clipself.backbones.export import save_clip
from clipself.data.images import find_pictures, read_image, size_of
from clipself.data.images.shard_files import expand
from clipself.data.images.shards import ShardPictures, open_member
from clipself.data.sources import CocoImages, ImageFolder
from clipself.detection.train import digest_of_files
from clipself.engine.log import read_metrics
from clipself.engine.sampler import EpochSampler


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))


def test_shards_are_the_folder_that_was_packed(tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "pictures", 10)
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.jpg").write_bytes(b"hidden")
    shards = pack(folder, tmp_path / "shards")
    whole, packed = ImageFolder(folder), ImageFolder(shards / "*.tar")
    assert [path.name for path in packed.paths] == [path.name for path in whole.paths]
    assert len(packed) == 10
    assert packed.names[0].startswith("00.tar/")
    for one, two in zip(whole.paths, packed.paths, strict=True):
        assert np.array_equal(np.asarray(read_image(one)), np.asarray(read_image(two)))
        assert size_of(one) == size_of(two)
    found = find_pictures(shards / "{00..02}.tar")
    assert [one.file for one in found] == list(packed.names)
    assert found.pictures[3].read().size == read_image(whole.paths[3]).size
    assert len(find_pictures([shards / "01.tar", packed.paths[0]])) == 5


def test_names_sort_as_paths_do_and_the_last_of_a_name_counts(tmp_path: Path) -> None:
    names = ["a-b/1.png", "a/2.png", "a/1.png", "a/b.c.png", "ä.png", "a/1.png"]
    for number in range(len(names)):
        path = tmp_path / "made" / str(number) / "x.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (4 + number, 4)).save(path)
    with tarfile.open(tmp_path / "one.tar", "w") as held:
        for number, name in enumerate(names):
            held.add(tmp_path / "made" / str(number) / "x.png", name)
    paths = ShardPictures([tmp_path / "one.tar"])
    listed = [path.relative_to(tmp_path / "one.tar") for path in paths]
    assert listed == sorted(set(map(Path, names)))
    assert read_image(tmp_path / "one.tar/a/1.png").size == (9, 4)
    assert paths[-1] == paths[len(paths) - 1]
    with pytest.raises(IndexError, match="picture 5 of 5"):
        _ = paths[5]


def test_an_index_is_kept_until_the_shard_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = draw_pictures(tmp_path / "pictures", 3)
    shards = pack(folder, tmp_path / "shards")
    before = ShardPictures(expand(shards / "*.tar")).digest()
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", None)  # nobody reads a header twice
        assert ShardPictures(expand(shards / "*.tar")).digest() == before
    with tarfile.open(shards / "00.tar", "a") as held:
        held.add(next(folder.iterdir()), "zz.jpg")
    after = ShardPictures(expand(shards / "*.tar"))
    assert len(after) == 4
    assert after.digest() != before


def test_damage_is_named_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shards = pack(draw_pictures(tmp_path / "pictures", 8), tmp_path / "shards")
    (shards / "01.tar").write_bytes(b"no tar at all" * 100)
    whole = (shards / "00.tar").read_bytes()
    (shards / "02.tar").write_bytes(whole[: len(whole) // 2])
    paths = ShardPictures(expand(shards / "*.tar"))
    assert 4 < len(paths) < 8
    assert "01.tar cannot be read as an uncompressed tar" in caplog.text
    assert "1 of 3 shards are left out" in caplog.text
    for path in paths:
        read_image(path)
    with pytest.raises(ValueError, match=r"01\.tar cannot be read"):
        ShardPictures([shards / "01.tar"])


def test_damage_in_the_middle_is_named_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Python's reader takes a damaged header for the end of the archive."""
    shard = pack(draw_pictures(tmp_path / "pictures", 4), tmp_path / "shards") / "00.tar"
    whole = shard.read_bytes()
    with tarfile.open(shard) as held:
        third = held.getmembers()[2]
    damaged = {
        "header": whole[: third.offset] + b"x" * 512 + whole[third.offset + 512 :],
        "cut in a header": whole[: third.offset + 100],
        "cut in a picture": whole[: third.offset_data + third.size // 2],
    }
    for number, (what, data) in enumerate(damaged.items()):
        path = tmp_path / f"{number}.tar"
        path.write_bytes(data)
        caplog.clear()
        assert len(ShardPictures([path])) == 2, what
        assert f"{path} is damaged behind 2 files" in caplog.text, what
    caplog.clear()
    (tmp_path / "bare.tar").write_bytes(whole[: third.offset])  # without an end, as some writers leave it
    assert len(ShardPictures([tmp_path / "bare.tar"])) == 2
    assert not caplog.text


def test_a_shard_that_changes_under_its_index_is_named(tmp_path: Path) -> None:
    shards = pack(draw_pictures(tmp_path / "pictures", 6), tmp_path / "shards", each=3)
    first, second = ImageFolder(shards / "00.tar").paths, ImageFolder(shards / "01.tar").paths
    whole = (shards / "00.tar").read_bytes()
    for path in (*first, *second):
        read_image(path)
    (shards / "00.tar").write_bytes(whole[:2000])  # while a run reads it
    with pytest.raises(ValueError, match=r"00\.tar/0\.png is (damaged or cut short|not an image that can be read)"):
        read_image(first[0])
    (shards / "01.tar").write_bytes(whole)
    with pytest.raises((ValueError, FileNotFoundError), match=r"01\.tar/3\.png"):
        [read_image(path) for path in second]


def test_members_that_are_no_pictures_are_named_passed_over_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from clipself.distillation.train import distill

    folder = draw_pictures(tmp_path / "pictures", 7)
    (folder / "3.png").write_bytes(b"no picture")
    shards = pack(folder, tmp_path / "shards")
    (shards / "02.tar").write_bytes(b"no tar at all" * 100)
    model = save_clip(tiny_openai_clip(layers=2), tmp_path / "clip")
    result = distill(
        out=tmp_path / "run", data=shards / "*.tar", model=str(model), image_size=64, max_regions=4, max_steps=7,
        batch_size=1, workers=0, precision="fp32", device="cpu",
    )  # fmt: skip
    assert "02.tar cannot be read as an uncompressed tar" in caplog.text
    assert "1 of 3 shards are left out" in caplog.text
    assert "00.tar/3.png is not an image that can be read; remove it or convert it; the next image" in caplog.text
    assert "1 of 7 images could not be read, others took their place" in result.to_table()


def test_labels_may_lie_beside_shards(tmp_path: Path) -> None:
    shards = pack(draw_pictures(tmp_path / "pictures", 6), tmp_path / "shards")
    labels = write_coco(tmp_path, {"00.tar/1.png": [[1, 2, 30, 20]], "01.tar/5.png": [[4, 4, 9, 9]]})
    held = CocoImages(labels, shards)
    assert [read_image(path).size for path in held.paths] == [(82, 63), (90, 75)]
    labels = write_coco(tmp_path, {"00.tar/1.png": [[1, 2, 30, 20]], "00.tar/5.png": [[4, 4, 9, 9]]})
    with pytest.raises(FileNotFoundError, match=r"1 of 2 images named by .* are missing, such as .*00\.tar/5\.png"):
        CocoImages(labels, shards)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    shards = pack(draw_pictures(tmp_path / "pictures", 3), tmp_path / "shards")
    with pytest.raises(FileNotFoundError, match=r"no \.tar shards at .*01\.tar"):
        expand(shards / "{00..07}.tar")
    with pytest.raises(FileNotFoundError, match=r"no \.tar shards at"):
        ImageFolder(shards / "x*.tar")
    with pytest.raises(FileNotFoundError, match=r"no image at .*; .*00\.tar holds none of that name"):
        read_image(shards / "00.tar/none.jpg")
    with tarfile.open(tmp_path / "empty.tar", "w") as held:
        held.add(Path(__file__), "a.txt")
    with pytest.raises(FileNotFoundError, match="hold no images"):
        ImageFolder(tmp_path / "empty.tar")
    with pytest.raises(FileNotFoundError, match=r"name shards themselves"):
        find_pictures(shards)
    assert open_member(tmp_path / "pictures") is None


def test_a_run_on_shards_is_the_run_on_the_folder(tmp_path: Path) -> None:
    from clipself.distillation.train import distill

    folder = draw_pictures(tmp_path / "pictures", 9)
    shards = pack(folder, tmp_path / "shards")
    model = save_clip(tiny_openai_clip(layers=2), tmp_path / "clip")
    losses = []
    for name, data in (("folder", folder), ("shards", shards / "*.tar")):
        distill(
            out=tmp_path / name, data=data, model=str(model), image_size=64, max_regions=4, max_steps=3, batch_size=2,
            workers=0, precision="fp32", device="cpu", keep_image=1.0,
        )  # fmt: skip
        losses.append([record["loss"] for record in read_metrics(tmp_path / name)])
    assert losses[0] == losses[1]
    first, second = (
        torch.load(tmp_path / name / "training_state.pt", weights_only=True) for name in ("folder", "shards")
    )
    assert all(map(torch.equal, first["learning"], second["learning"]))


def test_the_order_of_an_epoch_is_what_it_was() -> None:
    import random

    order = list(range(50))
    random.Random("3/0").shuffle(order)
    assert [index for _, index in next(iter(EpochSampler(50, batch_size=50, seed=3)))] == order


def test_a_cache_of_features_tells_pictures_in_shards(tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "pictures", 4)
    packed = ImageFolder(pack(folder, tmp_path / "shards", each=2) / "*.tar")
    before = digest_of_files(packed.names, packed.paths)
    assert digest_of_files(packed.names, list(packed.paths)) == before
    shard = tmp_path / "shards" / "00.tar"
    shard.write_bytes(shard.read_bytes() + bytes(10240))
    assert digest_of_files(packed.names, packed.paths) != before
