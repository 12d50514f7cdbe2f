import json
from pathlib import Path

import pytest

from clipself.data.captions import read_captions


def write(path: Path, rows: list[object]) -> Path:
    path.write_text(json.dumps({"images": [{"id": 3, "file_name": "a.jpg"}], "annotations": rows}))
    return path


def test_captions_are_gathered_by_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows: list[object] = [
        {"image_id": 3, "caption": " A cat. "}, {"image_id": "b", "caption": "A dog."},
        {"image_id": 3, "caption": "Two cats."}, {"image_id": 3, "caption": None}, 7,
    ]  # fmt: skip
    assert read_captions(write(tmp_path / "c.json", rows)) == {3: ["A cat.", "Two cats."], "b": ["A dog."]}
    assert read_captions(write(tmp_path / "c.json", [{"image_id": 3.0, "caption": "A cat."}])) == {3: ["A cat."]}
    assert "3 of 5 rows hold a caption of a picture" in caplog.text


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"c\.json holds no caption of a picture; its rows need image_id and caption"):
        read_captions(write(tmp_path / "c.json", [{"image_id": 3, "caption": " "}]))
    with pytest.raises(ValueError, match="is an instances file; pass a COCO captions JSON"):
        read_captions(write(tmp_path / "i.json", [{"image_id": 3, "bbox": [0, 0, 1, 1], "category_id": 1}]))
