"""Pictures with labels of the whole, in each form that people have them in."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clipself.data.image_labels import read_image_labels

KNOWN = ("cat", "fire hydrant", "dog")


def write_pictures(folder: Path, *files: str) -> Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40)).save(folder / file)
    return folder


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures", "a.png", "b.png", "c.png")


IMAGES = [{"id": number, "file_name": f"{letter}.png"} for number, letter in enumerate("abc")]


def test_a_folder_a_class(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "by_class", "zebra/1.png", "Fire_Hydrant/1.png", "Fire_Hydrant/more/2.png")
    held = read_image_labels(root, known=KNOWN)
    assert held.names == ("fire hydrant", "zebra")  # known ones as training spells them
    assert dict(zip(held.files, held.labels, strict=True)) == {
        "Fire_Hydrant/1.png": (0,), "Fire_Hydrant/more/2.png": (0,), "zebra/1.png": (1,),
    }  # fmt: skip
    assert held.describe(KNOWN) == "3 pictures with 3 labels of 2 names, 1 of them new: zebra"
    only = read_image_labels(root, known=KNOWN, only=["zebra"])
    assert (only.names, len(only)) == (("zebra",), 1)
    assert only.describe(KNOWN).endswith(
        "2 pictures without a label are left out; 1 names match none and are left out: Fire_Hydrant"
    )


def test_captions_are_searched_for_whole_words(tmp_path: Path, pictures: Path) -> None:
    said = ["A CAT beside two dogs.", "a catalogue", "the fire-hydrant", "A fire hydrant"]
    rows = [
        {"id": n, "image_id": image, "caption": text}
        for n, (image, text) in enumerate(zip((0, 1, 1, 2), said, strict=True))
    ]
    path = write(tmp_path / "captions.json", {"images": IMAGES, "annotations": rows})
    held = read_image_labels(path, pictures, known=KNOWN)
    assert held.files == ("a.png", "c.png")
    assert held.captions == (("A CAT beside two dogs.",), ("A fire hydrant",))
    assert [[held.names[label] for label in labels] for labels in held.labels] == [["cat", "dog"], ["fire hydrant"]]
    assert read_image_labels(path, pictures, known=KNOWN, only=["catalogue"]).files == ("b.png",)
    with pytest.raises(ValueError, match="no picture has a label that is wanted; captions hold none of the names"):
        read_image_labels(path, pictures, known=["giraffe"])


def test_lists_of_labels_with_and_without_boxes(tmp_path: Path, pictures: Path) -> None:
    categories = [{"id": 7, "name": "zebra"}, {"id": 3, "name": "Cat"}]
    rows = [
        {"id": 1, "image_id": 0, "category_id": 3, "bbox": [0, 0, 9, 9]}, {"id": 2, "image_id": 0, "category_id": 3},
        {"id": 3, "image_id": 2, "category_id": 7},
    ]  # fmt: skip
    boxed = write(tmp_path / "a.json", {"images": IMAGES, "annotations": rows, "categories": categories})
    listed = [{**row, "pos_category_ids": ids} for row, ids in zip(IMAGES, ([3], [], [7]), strict=True)]
    plain = write(tmp_path / "b.json", {"images": listed, "categories": categories})
    for path in (boxed, plain):
        held = read_image_labels(path, pictures, known=KNOWN)
        assert (held.files, held.labels, held.names) == (("a.png", "c.png"), ((0,), (1,)), ("cat", "zebra"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param({"images": IMAGES, "annotations": [{"image_id": 9, "category_id": 1}], "categories": []},
                     r"annotations\[0\]: its picture is none of the images", id="picture"),
        pytest.param({"images": IMAGES, "annotations": [{"image_id": 1, "category_id": 1}], "categories": []},
                     r"annotations\[0\]: its class is none of the categories", id="class"),
        pytest.param({"images": [{**IMAGES[0], "pos_category_ids": [5]}], "categories": [{"id": 1, "name": "cat"}]},
                     r"a\.png has the class 5, which its categories lack", id="positive"),
        *(
            pytest.param({"images": [{**IMAGES[0], "pos_category_ids": wrong}], "categories": []},
                         r'its "pos_category_ids" is .*, expected a list of category ids', id=f"positive-{kind}")
            for kind, wrong in {"list": [[1]], "text": "1", "number": 1, "table": {"1": 1}, "none": [None]}.items()
        ),
        pytest.param({"images": IMAGES}, "pass captions, instances, or a list", id="images-alone"),
        pytest.param([], "is an empty list; pass captions", id="empty"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(tmp_path: Path, pictures: Path, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_image_labels(write(tmp_path / "x.json", value), pictures, known=KNOWN)


def test_folders_are_told_apart_from_lists(tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(ValueError, match="3 pictures that lie in no folder of a class, such as a"):
        read_image_labels(pictures, known=KNOWN)
    with pytest.raises(ValueError, match="leave image_label_images out"):
        read_image_labels(pictures, pictures, known=KNOWN)
    with pytest.raises(FileNotFoundError, match=r"no labels of pictures at .*nowhere; pass a folder with one folder a"):
        read_image_labels(tmp_path / "nowhere", known=KNOWN)
    with pytest.raises(ValueError, match="pass the folder that they lie in as image_label_images"):
        read_image_labels(write(tmp_path / "x.json", {"images": IMAGES}), known=KNOWN)
    listed = [{"id": 1, "file_name": "none.png", "pos_category_ids": [1]}]
    missing = write(tmp_path / "y.json", {"images": listed, "categories": [{"id": 1, "name": "cat"}]})
    with pytest.raises(FileNotFoundError, match="are missing, such as"):
        read_image_labels(missing, pictures, known=KNOWN)
