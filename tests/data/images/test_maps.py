"""Maps of numbers: read as such whatever the file's form, or refused by name."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.support.damaged import damaged_files

from clipself.data.images import (
    check_size,
    read_index_map,
    read_segment_ids,
    segment_colours,
    write_index_map,
)
from clipself.data.images.maps import read_listed_ids
from clipself.viz.colours import class_colour

VALUES = np.array([[0, 1, 2], [3, 200, 255]], dtype=np.uint8)


def palette(values: Any) -> Image.Image:
    image = Image.fromarray(values)
    image.putpalette([255 - part for index in range(256) for part in (index, index // 2, 7)])
    return image


@pytest.mark.parametrize(
    ("picture", "name"),
    [
        pytest.param(Image.fromarray(VALUES), "a.png", id="8-bit"),
        pytest.param(Image.fromarray(VALUES.astype(np.uint16)), "a.png", id="16-bit"),
        pytest.param(Image.fromarray(VALUES.astype(np.int32)), "a.tif", id="32-bit"),
        pytest.param(Image.fromarray(VALUES.astype(np.float32)), "a.tif", id="whole-floats"),
        pytest.param(palette(VALUES), "a.png", id="palette"),
        pytest.param(Image.fromarray(VALUES).convert("RGB"), "a.png", id="grey-saved-as-colours"),
        pytest.param(Image.fromarray(VALUES).convert("RGBA"), "a.png", id="and-opaque"),
        pytest.param(Image.fromarray(VALUES).convert("LA"), "a.png", id="grey-and-opaque"),
    ],
)
def test_index_maps_of_every_form(tmp_path: Path, picture: Image.Image, name: str) -> None:
    picture.save(tmp_path / name)
    assert (read_index_map(tmp_path / name) == VALUES).all()


def test_index_maps_of_one_bit(tmp_path: Path) -> None:
    Image.fromarray(VALUES > 1).save(tmp_path / "a.png")
    assert read_index_map(tmp_path / "a.png").tolist() == [[0, 0, 1], [1, 1, 1]]


def colours(ids: Any) -> Image.Image:
    return Image.fromarray(segment_colours(np.asarray(ids)))


IDS = np.array([[0, 1, 70000], [3, 300, 70000]])
SMALL = np.array([[0, 1, 5], [3, 30, 5]])


@pytest.mark.parametrize(
    ("picture", "ids"),
    [
        pytest.param(colours(IDS), IDS, id="colours"),
        pytest.param(colours(IDS).convert("RGBA"), IDS, id="opaque-colours"),
        pytest.param(colours(IDS).quantize(8), IDS, id="palette-of-the-colours"),
        pytest.param(palette(SMALL.astype(np.uint8)), SMALL, id="palette-of-numbers"),
        pytest.param(Image.fromarray(SMALL.astype(np.uint8)), SMALL, id="one-channel"),
        pytest.param(Image.fromarray((SMALL * 100).astype(np.uint16)), SMALL * 100, id="16-bit"),
    ],
)
def test_segment_ids_of_every_form(tmp_path: Path, picture: Image.Image, ids: Any) -> None:
    picture.save(tmp_path / "a.png")
    listed = sorted(set(ids.ravel().tolist()) - {0})
    assert (read_segment_ids(tmp_path / "a.png", listed=listed) == ids).all()


def test_pngs_of_other_ids_are_refused(tmp_path: Path) -> None:
    colours(IDS).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png holds none of the segments that the annotation lists \(\[7, 8\]"):
        read_segment_ids(tmp_path / "a.png", listed=[8, 7])
    assert (read_segment_ids(tmp_path / "a.png", listed=[]) == IDS).all()
    assert (read_segment_ids(tmp_path / "a.png", listed=[3, 4]) == IDS).all()
    some = int(IDS[IDS != 0][0])
    ids_HW, known_HW = read_listed_ids(tmp_path / "a.png", [some])
    assert (ids_HW == IDS).all()
    assert known_HW.tolist() == [[one in (0, some) for one in row] for row in IDS.tolist()]


def test_faults_name_the_file(tmp_path: Path) -> None:
    Image.fromarray(VALUES / np.float32(3)).save(tmp_path / "floats.tif")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    colours(np.random.default_rng(0).integers(0, 9999, (50, 80))).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:-3000])
    (tmp_path / "folder.png").mkdir()
    said = {"floats.tif": "not whole", "bomb.png": "large", "cut.png": "cut short", "folder.png": "directory"}
    for name, words in said.items():
        for read in (read_index_map, read_segment_ids):
            with pytest.raises(ValueError, match=rf"{name} .*{words}"):
                read(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"no index map at .*gone\.png"):
        read_index_map(tmp_path / "gone.png")
    with pytest.raises(FileNotFoundError, match=r"no segments at .*gone\.png"):
        read_segment_ids(tmp_path / "gone.png")


@pytest.mark.parametrize("read", [read_index_map, read_segment_ids])
def test_maps_that_went_through_a_format_of_photographs_are_refused(tmp_path: Path, read: Any) -> None:
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "a.png", format="JPEG")
    with pytest.raises(ValueError, match=r"a\.png is a JPEG, whose pixels are only near what was stored"):
        read(tmp_path / "a.png")


def test_sizes_of_map_and_picture_are_both_named() -> None:
    check_size(VALUES, (3, 2), source="m.png", picture="p.jpg")
    with pytest.raises(ValueError, match=r"m\.png is 3 x 2 pixels, its picture p\.jpg is 2 x 3"):
        check_size(VALUES, (2, 3), source="m.png", picture="p.jpg")


def test_written_maps_can_be_seen_and_read_back(tmp_path: Path) -> None:
    write_index_map(tmp_path / "a.png", VALUES.astype(np.int64))
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.mode == "P"
        shown = np.asarray(opened.convert("RGB"))
    assert shown[0].tolist() == [list(class_colour(index)) for index in (0, 1, 2)]
    assert shown[1, 2].tolist() == [0, 0, 0]
    assert (read_index_map(tmp_path / "a.png") == VALUES).all()
    wide = np.array([[0, 300], [846, 65535]])
    write_index_map(tmp_path / "wide.png", wide)
    assert (read_index_map(tmp_path / "wide.png") == wide).all()


@pytest.mark.parametrize("count", [pytest.param(30, id="few"), pytest.param(600, id="many", marks=pytest.mark.slow)])
def test_damaged_maps_are_read_or_named(tmp_path: Path, count: int) -> None:
    for name, data in damaged_files(random.Random(9), count, kinds=("png", "tif")):
        (tmp_path / name).write_bytes(data)
        for read in (read_index_map, read_segment_ids):
            try:
                assert read(tmp_path / name).ndim == 2
            except ValueError as error:
                assert name in str(error)  # noqa: PT017 - both outcomes are right
