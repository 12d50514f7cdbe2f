"""Evaluation: scores of a segmenter that is known, what is counted, and what makes no table."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clipself.data.images import Picture, read_image
from clipself.data.semantic import IndexMaps
from clipself.segmentation.evaluate import score_segmenter, split_groups
from clipself.segmentation.report import compare_reports, tell
from clipself.segmentation.segmenter import Segmenter
from clipself.segmentation.training_free.table import training_free_table
from clipself.structures import Segmentation

NAMES = ("ground", "cat", "sky")


class Painter:
    """Reads the class of a pixel from its redness: 0, 1 or 2; says "sky" (2) wherever the picture is blue."""

    names: tuple[str, ...] = NAMES

    def use(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def set_image(self, image: Picture) -> None:
        self.pixels = np.asarray(read_image(image))

    def segment(self, image: Picture | None = None) -> Segmentation:
        if image is not None:
            self.set_image(image)
        labels = torch.from_numpy(np.where(self.pixels[..., 2] > 0, 2, self.pixels[..., 0]).astype(np.int64))
        return Segmentation(labels_HW=labels, names=self.names)


def write_maps(folder: Path, *, count: int = 3) -> IndexMaps:
    """Ground with a cat of 8 x 8 pixels that the painter sees, a quarter of it painted blue."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for index in range(count):
        labels = np.zeros((20, 30), dtype=np.uint8)
        labels[4:12, 4:12] = 1
        picture = np.zeros((20, 30, 3), dtype=np.uint8)
        picture[..., 0] = labels
        picture[4:8, 4:8, 2] = 200
        Image.fromarray(labels).save(folder / "labels" / f"{index}.png")
        Image.fromarray(picture).save(folder / "images" / f"{index}.png")
    return IndexMaps(folder / "images", folder / "labels", NAMES)


def test_scores_are_those_of_the_pixels(tmp_path: Path) -> None:
    painter: Segmenter = Painter()
    groups = {"base": ["ground"], "novel": ["cat", "sky"]}
    report = score_segmenter(painter, write_maps(tmp_path), groups=groups, progress=False, maps=tmp_path / "maps")
    summary = report.summary()  # of 64 pixels of the cat 16 are called sky; the sky occurs nowhere
    assert summary["mIoU"] == pytest.approx(100 * (1 + 48 / 64) / 2)
    assert summary["mIoU novel"] == pytest.approx(75.0)
    assert summary["pAcc"] == pytest.approx(100 * (600 - 16) / 600)
    assert (report.images, report.listed, report.absent) == (3, 3, ["sky"])
    assert "3 of 3 pictures, 2 of 3 classes occur; never labelled: sky" in report.to_table()
    held = report.to_json()
    assert (held["images_listed"], held["classes_absent"]) == (3, ["sky"])
    assert len(list((tmp_path / "maps").glob("*.png"))) == 3


def test_a_limit_is_told_and_one_below_1_refused(tmp_path: Path) -> None:
    data = write_maps(tmp_path)
    report = score_segmenter(Painter(), data, limit=2, progress=False)
    assert "2 of 3 pictures" in report.to_table()
    for limit in (0, -1):
        with pytest.raises(ValueError, match=f"limit={limit} must be at least 1"):
            score_segmenter(Painter(), data, limit=limit, progress=False)
        with pytest.raises(ValueError, match=f"limit={limit} must be at least 1"):
            training_free_table(annotations=tmp_path, limit=limit)


def test_a_group_that_the_data_lacks_is_a_dash_and_null(tmp_path: Path) -> None:
    report = score_segmenter(Painter(), write_maps(tmp_path), groups={"novel": ["sky"]}, progress=False)
    assert math.isnan(report.summary()["mIoU novel"])
    assert report.to_json()["scores"]["mIoU novel"] is None
    assert "nan" not in report.to_table()
    assert report.to_table().splitlines()[1].split()[-2:] == ["-", "-"]


def test_labels_of_no_class_make_no_table(tmp_path: Path) -> None:
    data = write_maps(tmp_path)
    labels = np.full((20, 30), 255, dtype=np.uint8)
    for path in (tmp_path / "labels").glob("*.png"):
        Image.fromarray(labels).save(path)
    with pytest.raises(ValueError, match="no pixel of the 3 pictures read is labelled with one of the 3 classes"):
        score_segmenter(Painter(), data, progress=False)


def test_another_vocabulary_than_that_of_the_data_is_refused(tmp_path: Path) -> None:
    painter = Painter()
    painter.use(["cat"])
    with pytest.raises(ValueError, match="the segmenter names 1 classes, the data has 3"):
        score_segmenter(painter, write_maps(tmp_path), progress=False)
    with pytest.raises(ValueError, match="there is nothing to compare"):
        compare_reports([])


def test_pictures_without_a_map_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_maps(tmp_path)
    (tmp_path / "labels" / "1.png").unlink()
    assert len(IndexMaps(tmp_path / "images", tmp_path / "labels", NAMES)) == 2
    assert "2 of 3 pictures" in caplog.text
    assert "1.png" in caplog.text


def test_groups_and_names() -> None:
    assert split_groups(["a", "b", "c"], ["c", "x"]) == {"base": ["c"], "novel": ["a", "b"]}
    assert split_groups(["a", "b"], ["a", "b"]) == {}
    spelt = split_groups(["Dog", "potted_plant", "kite"], ["dog", "potted plant"])  # as other data sets spell them
    assert spelt == {"base": ["Dog", "potted_plant"], "novel": ["kite"]}
    assert tell([str(number) for number in range(10)]) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"


@pytest.mark.usefixtures("world")
def test_the_table_has_a_row_for_every_readout_on_every_model(tmp_path: Path) -> None:
    """Two models of one last name keep a folder and a title of their own."""
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "openai").symlink_to(Path("other").resolve())
    reports = training_free_table(
        model=["./openai", f"{tmp_path}/again/openai"], readouts=["maskclip", "naclip"], novel="scenes/novel.txt",
        annotations="scenes/annotations/panoptic_val.json", images="scenes/val", shortest=64, window=32, stride=16,
        templates="simple", out=str(tmp_path / "table"), device="cpu",
    )  # fmt: skip
    assert len({report.title for report in reports}) == 4
    assert all(report.title in compare_reports(reports) for report in reports)
    files = sorted((tmp_path / "table").rglob("scores.json"))
    assert [json.loads(file.read_text())["settings"]["readout"] for file in files] == ["maskclip", "naclip"] * 2
