"""Pseudo boxes: what is kept of a detector's boxes, and beside which true ones."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.detection import NAMES, write_blocks
from tests.support.pictures import pack

from clipself.data.coco.instances import read_instances
from clipself.data.images import list_pictures, read_image
from clipself.detection import pseudo_boxes
from clipself.detection.pseudo_boxes import distractors, overlaps_none, read_tags, write_pseudo_boxes
from clipself.structures import Detections


class Oracle:
    """Finds every name that it is asked for once, side by side, the first the surest."""

    trained_names = NAMES

    def stream(self, images: Any, names: Sequence[str], *, threshold: float) -> Iterator[Detections]:
        for picture in list_pictures(images):
            image = read_image(picture)
            boxes = torch.tensor([[8.0 * place, 2.0, 8.0 * place + 6, 10.0] for place in range(len(names))])
            found = Detections(
                boxes=boxes, scores=0.9 - 0.1 * torch.arange(len(names)), labels=torch.arange(len(names)),
                names=tuple(names), size=(image.height, image.width),
            )  # fmt: skip
            yield found.above(threshold)


@pytest.fixture(autouse=True)
def oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pseudo_boxes, "open_detector", lambda checkpoint, device: Oracle())


def run(folder: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    report = write_pseudo_boxes(checkpoint="x", images=folder / "pictures", out=folder / "new.json", **options)
    return report, json.loads((folder / "new.json").read_text())


def test_a_folder_becomes_an_instances_file(tmp_path: Path) -> None:
    write_blocks(tmp_path, 2)
    report, held = run(tmp_path, names=("cat", "zebra"), threshold=0.85)
    assert [row["name"] for row in held["categories"]] == ["cat"]
    assert [(row["bbox"], row["score"]) for row in held["annotations"]] == [([0.0, 2.0, 6.0, 8.0], 0.9)] * 2
    assert (report.pictures, report.kept, report.true) == (2, 2, 0)
    assert len(read_instances(tmp_path / "new.json")) == 2


def test_shards_become_the_instances_file_of_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    write_blocks(tmp_path, 3)
    _, of_folder = run(tmp_path, names=("cat",))
    shards = pack(tmp_path / "pictures", tmp_path / "shards", each=2)
    write_pseudo_boxes(checkpoint="x", images=shards / "*.tar", out=tmp_path / "new.json", names=("cat",))
    held = json.loads((tmp_path / "new.json").read_text())
    files = [row.pop("file_name") for row in held["images"]]
    assert files == [f"0{number // 2}.tar/{row.pop('file_name')}" for number, row in enumerate(of_folder["images"])]
    assert held == of_folder
    assert len(read_instances(tmp_path / "new.json", images=shards)) == 3


def test_only_tags_are_kept_and_pictures_without_any_passed_over(tmp_path: Path) -> None:
    write_blocks(tmp_path, 3)
    (tmp_path / "tags.json").write_text(json.dumps({"1.png": ["kite"]}))
    report, held = run(tmp_path, tags=tmp_path / "tags.json", distractors=3)
    assert [row["name"] for row in held["categories"]] == ["kite"]
    assert [row["image_id"] for row in held["annotations"]] == [2]
    assert report.pictures == 1


def test_true_boxes_stay_and_push_out_what_overlaps_them(tmp_path: Path) -> None:
    path = write_blocks(tmp_path, 1)
    value = json.loads(path.read_text())
    value["annotations"][0]["bbox"] = [0, 2, 6, 8]
    path.write_text(json.dumps({**value, "annotations": value["annotations"][:1]}))
    report, held = run(tmp_path, annotations=path, names=("zebra", "dog"))
    assert (report.true, report.overlapping, report.kept) == (1, 1, 1)
    assert held["annotations"][0] == value["annotations"][0]
    dog = next(row["id"] for row in value["categories"] if row["name"] == "dog")
    assert held["annotations"][1]["category_id"] == dog
    assert held["categories"] == value["categories"]
    assert "1 overlapped a true box" in report.to_table()


def test_overlap_is_with_any_true_box() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
    true = torch.tensor([[0.0, 0.0, 10.0, 5.0], [50.0, 0.0, 60.0, 10.0]])
    assert overlaps_none(boxes, true, most=0.5).tolist() == [False, True]
    assert overlaps_none(boxes, true, most=0.51).tolist() == [True, True]


def test_distractors_are_others_and_follow_from_the_key() -> None:
    some = distractors(NAMES, ("dog",), most=2, key="a")
    assert some == distractors(NAMES, ("dog",), most=2, key="a")
    assert len(some) == 2
    assert "dog" not in some
    assert len(distractors(NAMES, ("dog",), most=48, key="a")) == len(NAMES) - 1


def test_tags_of_another_form_and_empty_results_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tags.json").write_text('{"a.jpg": "dog"}')
    with pytest.raises(ValueError, match="no table of tags; write"):
        read_tags(tmp_path / "tags.json")
    write_blocks(tmp_path, 1)
    with pytest.raises(ValueError, match="lower --threshold"):
        run(tmp_path, names=("cat",), threshold=0.95)
