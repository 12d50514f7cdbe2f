"""A run over pictures: broken ones are left out and told, and what is done is on disk at any time."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.support.pictures import draw_pictures

from clipself.data import predictions as room
from clipself.data.images import find_pictures
from clipself.data.predictions import OpenedPicture, predict_pictures, write_drawing


def held(out: Path) -> Any:
    return json.loads((out / "results.json").read_text())


def size_of(picture: OpenedPicture) -> dict[str, Any]:
    return {"size": list(picture.image.size), "number": picture.number}


def test_broken_pictures_are_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = draw_pictures(tmp_path / "photos", 3)
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:200])
    (folder / "notes.txt").write_text("x")
    with caplog.at_level(logging.WARNING):
        kept = predict_pictures(find_pictures(folder), tmp_path / "out", size_of, head={"names": ["cat"]})
    assert [row["number"] for row in kept.rows] == [1, 3]
    assert "1.png is damaged or cut short" in caplog.text
    assert "2 of 3 pictures" in caplog.text
    said = held(tmp_path / "out")
    assert (said["names"], said["listed"], said["read"], said["complete"]) == (["cat"], 3, 2, True)
    assert said["passed_over"] == {".txt": 1}
    assert said["images"] == kept.rows
    (left,) = said["left_out"]
    assert left["image"] == str(folder / "1.png")
    assert "damaged or cut short" in left["reason"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(ValueError("its masks are 3 x 4"), "0.png: its masks are 3 x 4", id="does-not-fit"),
        pytest.param(MemoryError(), "needs more memory", id="memory"),
        pytest.param(RuntimeError("[enforce fail at alloc_cpu.cpp:121]"), "needs more memory", id="allocator"),
    ],
)
def test_a_picture_that_cannot_be_answered_is_left_out(tmp_path: Path, error: Exception, reason: str) -> None:
    def answer(picture: OpenedPicture) -> dict[str, Any]:
        if picture.number == 1:
            raise error
        return {}

    kept = predict_pictures(find_pictures(draw_pictures(tmp_path / "photos", 2)), tmp_path, answer, head={})
    assert len(kept.rows) == 1
    assert reason in kept.left_out[0]["reason"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(28, "full"), RuntimeError("shapes"), TypeError("bug")])
def test_whatever_stops_a_run_what_was_done_is_kept(tmp_path: Path, stop: BaseException) -> None:
    def answer(picture: OpenedPicture) -> dict[str, Any]:
        if picture.number == 3:
            raise stop
        return size_of(picture)

    with pytest.raises(type(stop)):
        predict_pictures(find_pictures(draw_pictures(tmp_path / "photos", 4)), tmp_path, answer, head={})
    assert [row["number"] for row in held(tmp_path)["images"]] == [1, 2]
    assert held(tmp_path)["complete"] is False


def test_results_are_on_disk_as_they_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(room.time, "monotonic", lambda: clock[0])
    seen, saved = [], []

    def answer(picture: OpenedPicture) -> dict[str, Any]:
        clock[0] += 1.0
        seen.append(len(held(tmp_path)["images"]) if (tmp_path / "results.json").is_file() else 0)
        return {}

    def save() -> None:
        clock[0] += 0.09  # a twentieth of 1.8 seconds
        saved.append(clock[0])

    predict_pictures(find_pictures(draw_pictures(tmp_path / "photos", 6)), tmp_path, answer, head={}, save=save)
    assert seen == [0, 1, 1, 3, 3, 5]
    assert len(saved) == 4


def test_nothing_answered_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "photos" / name).write_text("no picture")
    with pytest.raises(ValueError, match=r"none of 2 pictures has an answer; the first: .*a\.jpg is not an image"):
        predict_pictures(find_pictures(tmp_path / "photos"), tmp_path, size_of, head={})
    with pytest.raises(ValueError, match=r"^\S*b\.jpg is not an image"):
        predict_pictures(find_pictures(tmp_path / "photos" / "b.jpg"), tmp_path, size_of, head={})
    assert len(held(tmp_path)["left_out"]) == 1


def test_drawings_keep_the_folders(tmp_path: Path) -> None:
    assert write_drawing(tmp_path, "a/b", Image.new("RGB", (2, 2))) == "pictures/a/b.png"
    assert (tmp_path / "pictures" / "a" / "b.png").is_file()
