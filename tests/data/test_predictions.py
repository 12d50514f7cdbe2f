"""A folder of predictions: broken pictures are left out and told, and what is done is on disk at any time."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.support.pictures import draw_pictures

from clipself.data.images import FoundPicture, find_pictures, read_index_map
from clipself.data.kept import Kept
from clipself.data.predictions import PredictionFolder, write_rows

Act = Callable[[FoundPicture], object]


def held(out: Path, name: str = "results.json") -> Any:
    return json.loads((out / name).read_text())


def run(photos: Path, out: Path, act: Act = lambda picture: None, **more: Any) -> PredictionFolder:
    """Answers every picture with its size and one box."""
    with PredictionFolder(out, find_pictures(photos), ["cat"], **more) as folder:
        for picture, image in folder.read():
            with folder.attempt(picture):
                act(picture)
                box = [{"bbox": [0, 0, 1, 1], "category_id": 1}]
                folder.add(picture, image, image, found={"size": list(image.size)}, rows=box)
    return folder


def test_broken_pictures_are_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photos = draw_pictures(tmp_path / "photos", 3)
    (photos / "1.png").write_bytes((photos / "1.png").read_bytes()[:200])
    (photos / "notes.txt").write_text("x")
    with caplog.at_level(logging.WARNING):
        folder = run(photos, tmp_path / "out")
    assert "1.png is damaged or cut short" in caplog.text
    assert "2 of 3 pictures, 1 left out" in caplog.text
    said = held(tmp_path / "out")
    assert (said["names"], said["listed"], said["read"], said["complete"]) == (["cat"], 3, 2, True)
    assert said["passed_over"] == {".txt": 1}
    assert [row["image"] for row in said["images"]] == [str(photos / "0.png"), str(photos / "2.png")]
    assert said["images"][1]["size"] == [84, 66]
    (left,) = said["left_out"]
    assert left["image"] == str(photos / "1.png")
    assert "damaged or cut short" in left["reason"]
    coco = held(tmp_path / "out", "coco.json")
    assert [row["file_name"] for row in coco["images"]] == ["0.png", "2.png"]
    assert [(row["id"], row["image_id"]) for row in coco["annotations"]] == [(1, 1), (2, 2)]
    assert coco["categories"] == [{"id": 1, "name": "cat"}]
    assert all(path.is_file() for path in folder.drawings)
    assert [str(path.relative_to(tmp_path / "out")) for path in folder.drawings] == ["pictures/0.png", "pictures/2.png"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(ValueError("its masks are 3 x 4"), "0.png: its masks are 3 x 4", id="does-not-fit"),
        pytest.param(MemoryError(), "needs more memory", id="memory"),
        pytest.param(RuntimeError("[enforce fail at alloc_cpu.cpp:121]"), "needs more memory", id="allocator"),
    ],
)
def test_a_picture_that_cannot_be_answered_is_left_out(tmp_path: Path, error: Exception, reason: str) -> None:
    def act(picture: FoundPicture) -> None:
        if picture.file == "0.png":
            raise error

    folder = run(draw_pictures(tmp_path / "photos", 2), tmp_path, act)
    assert len(folder.drawings) == 1
    assert reason in folder.left_out[0]["reason"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(28, "full"), RuntimeError("shapes"), TypeError("bug")])
def test_whatever_stops_a_run_what_was_done_is_kept(tmp_path: Path, stop: BaseException) -> None:
    def act(picture: FoundPicture) -> None:
        if picture.file == "2.png":
            raise stop

    with pytest.raises(type(stop)):
        run(draw_pictures(tmp_path / "photos", 4), tmp_path, act)
    assert [row["file"] for row in held(tmp_path)["images"]] == ["0.png", "1.png"]
    assert held(tmp_path)["complete"] is False


def test_results_are_on_disk_as_they_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, seen, saved = [0.0], [], []
    monkeypatch.setattr("time.monotonic", lambda: clock[0])

    def act(picture: FoundPicture) -> None:
        clock[0] += 1.0
        seen.append(len(held(tmp_path)["images"]))

    def more() -> None:
        clock[0] += 0.09  # a twentieth of 1.8 seconds
        saved.append(clock[0])

    run(draw_pictures(tmp_path / "photos", 6), tmp_path, act, more=more)
    assert seen == [0, 0, 2, 2, 4, 4]
    assert len(saved) == 5
    assert held(tmp_path)["complete"] is True


def test_nothing_answered_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "photos" / name).write_text("no picture")
    with pytest.raises(ValueError, match=r"none of 2 pictures has an answer; the first: .*a\.jpg is not an image"):
        run(tmp_path / "photos", tmp_path)
    with pytest.raises(ValueError, match=r"^\S*b\.jpg is not an image"):
        run(tmp_path / "photos" / "b.jpg", tmp_path)
    assert len(held(tmp_path)["left_out"]) == 1


def test_maps_and_drawings_keep_the_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        draw_pictures(tmp_path / "photos" / name, 1)
    labels = np.array([[0, 1], [2, 255]])
    with PredictionFolder(tmp_path / "out", find_pictures(tmp_path / "photos"), ["x"]) as folder:
        for place, (picture, image) in enumerate(folder.read(), start=1):
            assert folder.number == place
            folder.add(picture, image, Image.new("RGB", (2, 2)), found={}, labels_HW=labels)
    assert [row["map"] for row in held(tmp_path / "out")["images"]] == ["maps/a/0.png", "maps/b/0.png"]
    for name in ("a", "b"):
        assert (read_index_map(tmp_path / "out" / "maps" / name / "0.png") == labels).all()
        assert (tmp_path / "out" / "pictures" / name / "0.png").is_file()


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_rows_are_written_as_json_writes_them_at_once(tmp_path: Path, indent: int | None, count: int) -> None:
    rows = [{"file": f'{number} "é"\n', "box": [1.5, {"a": []}], "none": {}} for number in range(count)]
    kept = Kept[dict[str, Any]](tmp_path)
    for row in rows:
        kept.append(row)
    value = {"head": {"a": [1, 2]}, "rows": rows, "last": "x"}
    path = write_rows(tmp_path / "rows.json", {**value, "rows": kept}, indent=indent)
    assert path.read_text() == json.dumps(value, indent=indent) + ("" if indent is None else "\n")
