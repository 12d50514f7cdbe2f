import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.panoptic import draw_world, write_world

from clipself.data.images import read_image
from clipself.metrics.mask_ap import encode_mask
from clipself.panoptic.generators.files import FileMasks
from clipself.panoptic.generators.mask_set import MaskSet
from clipself.panoptic.generators.table import open_generator


def test_masks_of_a_panoptic_file(tmp_path: Path) -> None:
    annotations, images = write_world(tmp_path, void=False)
    path = images / "000000000006.png"
    found = open_generator(annotations)(read_image(path), file=str(path), names=["any"])
    _, ids, labels = draw_world(1)
    assert [int((mask > 0).sum()) for mask in found.masks_QYX] == [int((ids == segment).sum()) for segment in labels]
    assert found.logits_QK is None
    assert found.void_Q.tolist() == [0.0] * 3


def test_masks_from_run_lengths_find_their_picture_by_name_or_number(tmp_path: Path) -> None:
    picture, ids, _ = draw_world(0)
    rows = [{"image_id": 12, "segmentation": encode_mask(ids == 300), "score": 0.75}]
    rows += [{"file_name": "cat.jpg", "segmentation": encode_mask(ids == 1000)}]
    (tmp_path / "masks.json").write_text(json.dumps(rows))
    masks = FileMasks(tmp_path / "masks.json")
    by_number = masks(picture, file="x/000000000012.jpg", names=[])
    assert torch.equal(by_number.masks_QYX[0] > 0, torch.from_numpy(ids == 300))
    assert by_number.void_Q.tolist() == [0.25]
    by_name = masks(picture, file="cat.jpg", names=[])
    assert torch.equal(by_name.masks_QYX[0] > 0, torch.from_numpy(ids == 1000))
    assert masks(picture, file="dog.jpg", names=[]).masks_QYX.shape == (0, 48, 64)


def test_masks_find_their_picture_in_either_form_of_unicode(tmp_path: Path) -> None:
    picture, ids, _ = draw_world(0)
    (tmp_path / "m.json").write_text(
        json.dumps([{"file_name": "cafe\u0301.jpg", "segmentation": encode_mask(ids > 0)}])
    )
    assert len(FileMasks(tmp_path / "m.json")(picture, file="x/caf\u00e9.png", names=[]).masks_QYX) == 1


def test_a_folder_of_lists_as_sam_writes_them(tmp_path: Path) -> None:
    picture, ids, _ = draw_world(0)
    held = {"annotations": [{"segmentation": encode_mask(ids == 7), "predicted_iou": 0.9}]}
    (tmp_path / "sa_1.json").write_text(json.dumps(held))
    found = FileMasks(tmp_path)(picture, file="photos/sa_1.jpg", names=[])
    assert float(found.void_Q[0]) == pytest.approx(0.1)
    with pytest.raises(FileNotFoundError, match=r"holds no sa_2\.json"):
        FileMasks(tmp_path)(picture, file="sa_2.jpg", names=[])


def test_faults_are_named(tmp_path: Path) -> None:
    picture, ids, _ = draw_world(0)
    (tmp_path / "a.json").write_text(json.dumps([{"file_name": "a.jpg", "segmentation": encode_mask(ids[:9] == 7)}]))
    with pytest.raises(ValueError, match="masks belong to the picture at its own size"):
        FileMasks(tmp_path / "a.json")(picture, file="a.jpg", names=[])
    (tmp_path / "b.json").write_text(json.dumps({"categories": []}))
    with pytest.raises(ValueError, match="holds no masks"):
        FileMasks(tmp_path / "b.json")
    (tmp_path / "c.json").write_text(json.dumps([{"file_name": "a.jpg", "bbox": []}]))
    with pytest.raises(ValueError, match="neither segments_info nor segmentation"):
        FileMasks(tmp_path / "c.json")
    with pytest.raises(FileNotFoundError, match=r"no masks at .*hf:NAME"):
        open_generator(tmp_path / "none")
    annotations, images = write_world(tmp_path / "world")
    (tmp_path / "world" / "panoptic" / "000000000005.png").unlink()
    with pytest.raises(FileNotFoundError, match="pass the folder of the PNGs"):
        FileMasks(annotations)(picture, file=str(images / "000000000005.png"), names=[])
    with pytest.raises(ValueError, match=r"expected \(Q, Y, X\), \(Q,\) and \(Q, K\)"):
        MaskSet(masks_QYX=torch.zeros(2, 4, 4), void_Q=torch.zeros(3))


def one_mask(value: int) -> dict[str, object]:
    """A mask of 2 x 3 pixels that only the pixel `value` is in, so that it can be told from others."""
    mask = np.zeros(6, dtype=bool)
    mask[value] = True
    return encode_mask(mask.reshape(2, 3))


def ask(masks: FileMasks, file: str) -> list[int]:
    """Which of `one_mask` come for a picture."""
    found = masks(Image.new("RGB", (3, 2)), file=file, names=[])
    return [int(mask.flatten().argmax()) for mask in found.masks_QYX]


def test_pictures_of_one_name_keep_their_own_masks(tmp_path: Path) -> None:
    names = ["a/1.png", "b\\1.png", "a/2.jpg", "a/2.png", "c/007", "whole.name"]
    rows = [{"file_name": name, "segmentation": one_mask(place)} for place, name in enumerate(names)]
    (tmp_path / "masks.json").write_text(json.dumps(rows))
    masks = FileMasks(tmp_path / "masks.json")
    asked = ["x/a/1.png", "x/b/1.png", "x/a/2.jpg", "x/a/2.png", "x/c/7.webp", "whole.name"]
    assert [ask(masks, file) for file in asked] == [[0], [1], [2], [3], [4], [5]]
    assert ask(masks, "x/d/1.png") == []  # of another folder: nobody's masks are used for it


@pytest.mark.parametrize("where", ["list", "folder"])
def test_masks_that_fit_two_pictures_are_refused(where: str, tmp_path: Path) -> None:
    if where == "list":
        (tmp_path / "masks.json").write_text(json.dumps([{"file_name": "1.png", "segmentation": one_mask(0)}]))
    else:
        (tmp_path / "masks.json").mkdir()
        (tmp_path / "masks.json" / "1.json").write_text(json.dumps([{"segmentation": one_mask(0)}]))
    masks = FileMasks(tmp_path / "masks.json")
    assert ask(masks, "a/1.png") == [0]
    assert ask(masks, "a/1.png") == [0]
    with pytest.raises(ValueError, match=r"'1.*' fits more than one picture, .*a/1.png and .*b/1.png; name pictures"):
        ask(masks, "b/1.png")


def test_a_picture_that_two_names_fit_is_refused(tmp_path: Path) -> None:
    rows = [{"file_name": name, "segmentation": one_mask(0)} for name in ("a/1.png", "b/1.png")]
    (tmp_path / "masks.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=r"more than one entry that fits 1.png, such as 'a/1.png' and 'b/1.png'"):
        ask(FileMasks(tmp_path / "masks.json"), "1.png")


def test_lists_lie_in_nested_folders(tmp_path: Path) -> None:
    for place, name in enumerate(("a/1", "b/1", "b/2.jpg", "b/2.png")):
        path = tmp_path / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps([{"segmentation": one_mask(place)}]))
    masks = FileMasks(tmp_path)
    assert [ask(masks, f"photos/{name}") for name in ("a/1.jpg", "b/1.jpg", "b/2.jpg", "b/2.png")] == [
        [0],
        [1],
        [2],
        [3],
    ]


def test_a_folder_of_lists_is_searched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in range(5):
        (tmp_path / f"{place}.json").write_text(json.dumps([{"segmentation": one_mask(place)}]))
    masks = FileMasks(tmp_path)

    def refuse(*given: object) -> None:
        raise AssertionError("the folder is searched again")

    monkeypatch.setattr(Path, "glob", refuse)
    monkeypatch.setattr(Path, "rglob", refuse)
    assert [ask(masks, f"{place}.png") for place in range(5)] == [[place] for place in range(5)]


def test_sams_own_list_belongs_to_one_picture(tmp_path: Path) -> None:
    raw = [{"segmentation": one_mask(4), "predicted_iou": 0.9, "area": 1}, {"segmentation": one_mask(2)}]
    (tmp_path / "raw.json").write_text(json.dumps(raw))
    masks = FileMasks(tmp_path / "raw.json")
    assert ask(masks, "cat.jpg") == ask(masks, "cat.jpg") == [4, 2]
    with pytest.raises(ValueError, match=r"names no picture in its rows.*pass a folder with one list for each picture"):
        ask(masks, "dog.jpg")
    (tmp_path / "mixed.json").write_text(json.dumps([*raw, {"file_name": "a.jpg", "segmentation": one_mask(0)}]))
    with pytest.raises(ValueError, match='row 0 has neither "file_name" nor "image_id"'):
        FileMasks(tmp_path / "mixed.json")
    held = {"image": {"image_id": 5, "file_name": "sa_5.jpg"}, "annotations": raw}
    (tmp_path / "sa.json").write_text(json.dumps(held))
    masks = FileMasks(tmp_path / "sa.json")
    assert (ask(masks, "x/sa_5.jpg"), ask(masks, "x/sa_6.jpg")) == ([4, 2], [])


def test_masks_of_two_sizes_and_scores_that_are_none_are_named(tmp_path: Path) -> None:
    small = encode_mask(np.ones((2, 2), dtype=bool))
    rows = [{"file_name": "a.jpg", "segmentation": one} for one in (one_mask(0), small)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match="2 x 2"):
        ask(FileMasks(tmp_path / "a.json"), "a.jpg")
    for score in ("high", None, math.nan):
        row = {"file_name": "a.jpg", "segmentation": one_mask(0), "score": score}
        (tmp_path / "b.json").write_text(json.dumps([row]))
        with pytest.raises(ValueError, match=r'row 0: its "score" is .*, expected a number in \[0, 1\]'):
            ask(FileMasks(tmp_path / "b.json"), "a.jpg")


def test_masks_that_hold_ids_alone_go_by_the_ids_of_the_pictures(tmp_path: Path) -> None:
    """Ids count from 1 and names from 0, so that each name is the id of the picture before."""
    rows = [{"image_id": place + 1, "segmentation": one_mask(place)} for place in range(3)]
    (tmp_path / "masks.json").write_text(json.dumps(rows))
    masks, files = FileMasks(tmp_path / "masks.json"), ["0.png", "1.png", "2.png", "3.png"]
    assert masks.expect(files, [1, 2, 3, 4]) == 3
    assert [ask(masks, file) for file in files] == [[0], [1], [2], []]
    strangers = FileMasks(tmp_path / "masks.json")  # of other ids: by the numbers in their names, as without ids
    assert strangers.expect(files, ["a", "b", "c", "d"]) == 3
    assert [ask(strangers, file) for file in files] == [[], [0], [1], [2]]
    named = [{**row, "file_name": f"{place}.png"} for place, row in enumerate(rows)]
    (tmp_path / "named.json").write_text(json.dumps(named))
    by_name = FileMasks(tmp_path / "named.json")
    assert by_name.expect(files, [4, 3, 2, 1]) == 3
    assert ask(by_name, "2.png") == [2]


def test_masks_that_are_none_or_there_twice_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    empty = encode_mask(np.zeros((2, 3), dtype=bool))
    square = [[0, 0, 2, 0, 2, 2, 0, 2]]
    rows = [{"file_name": "a.jpg", "segmentation": one} for one in (one_mask(0), one_mask(0), empty, square, square)]
    (tmp_path / "a.json").write_text(json.dumps([*rows, {**rows[0], "file_name": "b.jpg"}]))
    with caplog.at_level(logging.INFO, "clipself"):
        FileMasks(tmp_path / "a.json")
    assert "1 masks without a pixel (row 2)" in caplog.text
    assert "2 masks repeat an earlier one of their picture (row 1, row 4)" in caplog.text


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"segmentation": [[0, 1, 1, 0, 0, 0]] * 4},
            "row 0: its segmentation is rows of 0 and 1, a picture; encode it",
        ),
        ({"segmentation": one_mask(0), "score": 90}, r'row 0: its "score" is 90, expected a number in \[0, 1\]'),
        ({"segmentation": one_mask(0), "score": -3.5}, r'row 0: its "score" is -3.5, expected'),
    ],
)
def test_masks_and_scores_in_another_form_are_refused(row: dict[str, Any], said: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"file_name": "a.jpg", **row}]))
    with pytest.raises(ValueError, match=said):
        FileMasks(tmp_path / "a.json")
