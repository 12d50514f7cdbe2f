"""`clipself label`: any model over any pictures, the same files whether it was stopped or not, a page that is whole."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from tests.support.detection import tiny_detector
from tests.support.pictures import draw_pictures, pack
from tests.support.tiny import tiny_openai_clip
from tests.support.toys.masks import ColourMasks

import clipself
from clipself.backbones.export import save_clip
from clipself.cli.main import main
from clipself.data.coco.instances import read_instances
from clipself.data.labels.formats import LABEL_FORMATS
from clipself.data.labels.objects import LabelledObject, LabelledPicture
from clipself.detection.checkpoint import save_detector
from clipself.ops.run_lengths import encode_mask
from clipself.panoptic.generators.table import GENERATORS
from clipself.structures import Detections, Segmentation
from clipself.workflows.labelling import labellers, run
from clipself.workflows.labelling.choose import choose_objects, drop_same
from clipself.workflows.labelling.config import LabelConfig
from clipself.workflows.labelling.labellers import split_parts, task_of
from clipself.workflows.labelling.review import write_review

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60)}


class Blocks:
    """Finds the drawn blocks, for pictures that are drawn here; broken where a file is called so."""

    def __init__(self, config: LabelConfig) -> None:
        self.names = tuple(config.names)
        self.seen: list[str] = []

    def __call__(self, image: Image.Image, file: Path, *, least: float) -> Detections:
        self.seen.append(file.name)
        if "stop" in file.name:
            raise KeyboardInterrupt
        pixels = np.asarray(image)
        masks, labels = [], []
        for label, name in enumerate(self.names):
            mask = (pixels == COLOURS[name]).all(-1)
            if mask.any():
                masks.append(torch.from_numpy(mask))
                labels.append(label)
        scores = [0.9 - 0.1 * label for label in labels]
        size = (image.height, image.width)
        return Detections.from_masks(masks, labels=labels, scores=scores, names=self.names, size=size)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number in range(7):
        pixels = np.zeros((40, 60, 3), dtype=np.uint8)
        pixels[5:15, 5 + number : 25] = COLOURS["red"]
        pixels[20:30, 10:20] = pixels[25:35, 30:50] = COLOURS["green"]
        path = folder / f"{number % 2}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    (folder / "0/1broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[Blocks]:
    opened: list[Blocks] = []

    def open_blocks(config: LabelConfig) -> Blocks:
        opened.append(Blocks(config))
        return opened[-1]

    monkeypatch.setitem(labellers.LABELLERS, "detect", open_blocks)
    return opened


def label(photos: Any, out: Path, **options: Any) -> Any:
    return clipself.label(**{"images": photos, "names": ["red", "green"], "out": out, "device": "cpu", **options})


def content(folder: Path) -> dict[str, bytes]:
    """All files; what names the folder itself is left out of them."""
    held = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            held[str(path.relative_to(folder))] = path.read_bytes().replace(folder.name.encode(), b"OUT")
    return held


def test_a_folder_and_words_become_data_sets(photos: Path, blocks: list[Blocks], tmp_path: Path) -> None:
    result = label(photos, tmp_path / "out", formats=list(LABEL_FORMATS))
    assert (result.pictures, dict(result.objects)) == (7, {"red": 7, "green": 7})
    assert [row["left_out"] for row in result.left_out] == ["0/1broken.png"]
    assert "is not an image that can be read" in result.left_out[0]["reason"]
    coco = COCO(str(result.written["coco"]))
    files = [one["file_name"] for one in coco.loadImgs(coco.getImgIds())]
    assert files == [f"{number % 2}/{number}.png" for number in (0, 2, 4, 6, 1, 3, 5)]
    first = coco.loadAnns(coco.getAnnIds(imgIds=[2]))
    assert [(one["bbox"], one["score"]) for one in first] == [([7, 5, 18, 10], 0.9), ([10, 20, 40, 15], 0.8)]
    for name, path in result.written.items():
        images = path.parent / "images" if name.startswith("yolo") else photos
        table = read_instances(path, images=images)
        assert (len(table.images), len(table)) == (7, 14), name
    told = result.to_table()
    assert "7 pictures: 7 x red, 7 x green; 1 left out, such as" in told
    assert str(tmp_path / "out/review/index.html") in told


@pytest.mark.parametrize("stop", ["stopped", "killed"])
def test_stopped_and_gone_on_with_gives_the_same_files(
    stop: str, photos: Path, blocks: list[Blocks], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    formats = list(LABEL_FORMATS)
    label(photos, tmp_path / "whole", formats=formats)
    looks = Blocks.__call__
    monkeypatch.setattr(Blocks, "__call__", lambda self, image, file, least: (
        looks(self, image, Path("stop") if len(self.seen) == 4 else file, least=least)))  # fmt: skip
    with pytest.raises(KeyboardInterrupt, match="and the same command goes on from there"):
        label(photos, tmp_path / "cut", formats=formats)
    monkeypatch.setattr(Blocks, "__call__", looks)
    journal = tmp_path / "cut/labels.jsonl"
    assert len(journal.read_text().splitlines()) == 5  # the broken one too
    if stop == "killed":
        journal.write_bytes(journal.read_bytes()[:-7])  # in the middle of a line
    result = label(photos, tmp_path / "cut", formats=formats)
    assert result.resumed == (5 if stop == "stopped" else 4)
    assert len(blocks[-1].seen) == 7 - (result.resumed - 1)
    cut = content(tmp_path / "cut")
    assert content(tmp_path / "whole") == cut
    again = label(photos, tmp_path / "cut", formats=formats)
    assert (again.resumed, blocks[-1].seen) == (8, [])
    assert content(tmp_path / "cut") == cut


def test_labels_of_other_settings_are_not_gone_on_with(photos: Path, blocks: list[Blocks], tmp_path: Path) -> None:
    label(photos, tmp_path / "out")
    with pytest.raises(
        ValueError, match=r"holds labels that were made with other threshold \(0\.3, now 0\.85\); choose"
    ):
        label(photos, tmp_path / "out", threshold=0.85)
    with pytest.raises(ValueError, match="made with other pictures"):
        label(photos / "0", tmp_path / "out")
    result = label(photos, tmp_path / "out", threshold=0.85, overwrite=True)
    assert dict(result.objects) == {"red": 7, "green": 0}
    assert label(photos, tmp_path / "out", threshold=0.85, formats=["cvat"]).resumed == 8  # what is written may change


def test_each_name_may_have_its_own_threshold(photos: Path, blocks: list[Blocks], tmp_path: Path) -> None:
    result = label(photos, tmp_path / "out", threshold=0.85, thresholds={"Green": 0.5})
    assert dict(result.objects) == {"red": 7, "green": 7}
    with pytest.raises(ValueError, match="thresholds: 'blue' is not looked for; the names are red, green"):
        label(photos, tmp_path / "other", thresholds={"blue": 0.5})
    with pytest.raises(ValueError, match=r"thresholds: that of 'red' is 7, which is not in \[0, 1\]"):
        label(photos, tmp_path / "other", thresholds={"red": 7})


def test_opened_pictures_are_kept_with_their_labels(blocks: list[Blocks], photos: Path, tmp_path: Path) -> None:
    opened = Image.open(photos / "1/1.png")
    arrays = [np.asarray(clipself.read_image(photos / "0/0.png")), opened]
    result = label(arrays, tmp_path / "out", formats=["coco", "yolo"])
    held = json.loads(result.written["coco"].read_text())
    assert [one["file_name"] for one in held["images"]] == ["picture_1.png", "1.png"]
    np.testing.assert_array_equal(np.asarray(clipself.read_image(tmp_path / "out/images/picture_1.png")), arrays[0])
    assert len(read_instances(result.written["yolo"], images=tmp_path / "out/yolo/images")) == 4
    label([photos / "0", *arrays], tmp_path / "mixed")
    assert len(read_instances(tmp_path / "mixed/coco/instances.json", images=tmp_path / "mixed/images")) == 12
    assert (tmp_path / "mixed/images/2.png").is_symlink()


def test_shards_are_labelled_as_their_folder(
    blocks: list[Blocks], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    shards = pack(photos, tmp_path / "shards")
    result = label(shards / "*.tar", tmp_path / "out", formats=["coco", "yolo"])
    assert (result.pictures, dict(result.objects)) == (7, {"red": 7, "green": 7})
    assert [row["left_out"] for row in result.left_out] == ["00.tar/0/1broken.png"]
    assert len(read_instances(result.written["coco"], images=shards)) == 14
    assert len(read_instances(result.written["yolo"], images=tmp_path / "out/yolo/images")) == 14
    written = tmp_path / "out/yolo/images/01.tar/1/5.png"
    assert written.read_bytes() == (photos / "1/5.png").read_bytes()
    assert not written.is_symlink()


def test_a_video_is_labelled_frame_by_frame(blocks: list[Blocks], tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.avi"), "w") as container:
        stream = container.add_stream("png", rate=5)
        stream.width, stream.height, stream.pix_fmt = 40, 30, "rgb24"
        for number in range(6):
            pixels = np.zeros((30, 40, 3), dtype=np.uint8)
            pixels[5:15, number : number + 10] = COLOURS["red"]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    result = label(tmp_path / "clip.avi", tmp_path / "out", every=2, review_objects=1)
    held = json.loads(result.written["coco"].read_text())
    assert [one["file_name"] for one in held["images"]] == [f"clip/00000{number}.png" for number in (0, 2, 4)]
    assert [one["bbox"] for one in held["annotations"]] == [[number, 5, 10, 10] for number in (0, 2, 4)]
    assert (tmp_path / "out/images/clip/000004.png").is_file()


def test_the_command_prints_where_everything_is(
    blocks: list[Blocks], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["label", str(photos), "--names", "red", "green", "--out", str(tmp_path / "out"), "--device", "cpu"]
    words += ["--formats", "yolo", "cvat", "--thresholds", "green", "0.85"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "7 pictures: 7 x red; 1 left out" in told
    assert "yolo/data.yaml" in told
    assert main([*words, "--overlap", "2"]) == 2
    assert "overlap=2.0 is not in [0, 1]" in capsys.readouterr().err


class References(HTMLParser):
    """What a page shows and leads to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.page, self.found = page, list[str]()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [unquote(value) for key, value in attributes if key in ("src", "href") and value]

    def files(self) -> Iterator[Path]:
        return (self.page.parent / one for one in self.found)


def test_the_page_leads_to_what_is_there(blocks: list[Blocks], photos: Path, tmp_path: Path) -> None:
    clipself.read_image(photos / "0/0.png").save(photos / "0/x & y#1.png")
    result = label(photos, tmp_path / "out", names=["red", "green"], review_objects=3)
    pages = sorted(result.review.parent.glob("*.html"))
    assert [page.name for page in pages] == ["index.html", "name-1.html", "name-2.html"]
    for page in pages:
        files = list(References(page).files())
        assert len(files) > 6
        assert [file for file in files if not file.is_file()] == []
    assert len(re.findall("<figure>", pages[1].read_text())) == 6  # three best, three most doubtful
    small = clipself.read_image(tmp_path / "out/review/pictures/0/0.png.jpg")
    assert small.size == (60, 40)
    assert int(np.asarray(small)[35, 12].max()) > 60  # the lower side of a box, on black
    cut = clipself.read_image(tmp_path / "out/review/objects/1-1.jpg")
    assert cut.size == (29 - 2, 19 - 2)  # the block from (5, 5) to (25, 15), and 3 pixels around it
    (tmp_path / "out/review/pictures/0/0.png.jpg").unlink()
    label(photos, tmp_path / "out", names=["red", "green"], review_objects=3)
    assert (tmp_path / "out/review/pictures/0/0.png.jpg").is_file()  # drawn again
    assert label(photos, tmp_path / "none", review=False).review is None


def test_many_pictures_have_many_pages(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    one = LabelledObject(label=0, box=(1, 1, 4, 4), score=0.5)
    pictures = [LabelledPicture(file="a.png", path=tmp_path / "a.png", size=(8, 8), objects=(one,))] * 230
    page = write_review(pictures, ["<b>", "other"], tmp_path, most=2)
    assert sorted(path.name for path in page.parent.glob("p*.html")) == ["pictures-2.html", "pictures-3.html"]
    assert "230 pictures, 230 objects, 1 of 2 names" in page.read_text()
    assert "<b>" not in page.read_text()


def mask(*box: int) -> Any:
    drawn = np.zeros((20, 20), dtype=bool)
    drawn[box[1] : box[3], box[0] : box[2]] = True
    return encode_mask(drawn)


def test_of_objects_that_are_the_same_the_best_stays() -> None:
    first = LabelledObject(label=0, box=(0, 0, 10, 10), score=0.9)
    same = LabelledObject(label=1, box=(0, 0, 10, 9), score=0.8)
    beside = LabelledObject(label=1, box=(5, 0, 15, 10), score=0.7)
    assert drop_same([first, same, beside], overlap=0.8) == [first, beside]
    assert drop_same([first, same, beside], overlap=0.95) == [first, same, beside]
    assert drop_same([first, same, beside], overlap=1) == [first, same, beside]
    chained = [LabelledObject(label=0, box=(shift, 0, shift + 10, 10), score=0.5) for shift in (0, 2, 4)]
    assert drop_same(chained, overlap=0.6) == [chained[0], chained[2]]  # what went takes nobody along
    masked = [LabelledObject(label=0, box=(0, 0, 10, 10), score=0.5, mask=mask(*box))
              for box in ((0, 0, 10, 2), (0, 8, 10, 10), (0, 0, 10, 3))]  # fmt: skip
    assert drop_same(masked, overlap=0.6) == masked[:2]  # masks tell, where boxes are alike


def test_small_and_empty_objects_are_left_out() -> None:
    found = Detections(
        boxes=torch.tensor([[0, 0, 10, 10], [0, 0, 2, 2], [5, 5, 5, 9]]).float(), scores=torch.tensor([0.5, 0.9, 0.8]),
        labels=torch.tensor([0, 0, 0]), names=("cat",), size=(20, 20),
    )  # fmt: skip
    for share, expected in ((0.0, [0.9, 0.5]), (0.02, [0.5])):
        chosen = choose_objects(found, thresholds=[0.3], overlap=1, least_area=share)
        assert [one.score for one in chosen] == expected


def test_connected_parts_of_a_class_are_objects() -> None:
    labels = torch.tensor([[0, 0, 1, 0], [1, 1, 1, 0], [0, 1, 0, 0]])
    scores = torch.where(labels == 1, 0.5, 0.25)
    scores[0, 0] = 0.75
    found = split_parts(Segmentation(labels_HW=labels, scores_HW=scores, names=("a", "b")), least_area=0.1)
    rows = [(one.name, one.score, one.box) for one in found]
    assert rows == [("a", 0.5, (0, 0, 2, 1)), ("b", 0.5, (0, 0, 3, 3)), ("a", 0.25, (2, 0, 4, 3))]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    draw_pictures(folder / "photos", 2)
    save_clip(tiny_openai_clip(layers=4), folder / "clip")
    save_detector(tiny_detector(score_threshold=0.0), folder / "detector", model=str(folder / "clip"), card={})
    return folder


@pytest.mark.parametrize(
    ("options", "masks"),
    [
        pytest.param({"checkpoint": "detector"}, False, id="detector"),
        pytest.param({"task": "segment", "model": "./clip"}, True, id="segmenter"),
        pytest.param({"task": "panoptic", "model": "./clip", "checkpoint": "toy:0.01"}, True, id="mask generator"),
    ],
)
def test_every_kind_of_model_labels(
    options: dict[str, Any], masks: bool, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(GENERATORS, "toy", lambda source, device: ColourMasks(source))
    monkeypatch.setenv("CLIPSELF_CACHE", str(models / "cache"))
    monkeypatch.chdir(models)
    result = label("photos", tmp_path / "out", threshold=0.0, least_area=0.0, **options)
    table = read_instances(result.written["coco"], masks=True)
    assert len(table) == sum(result.objects.values()) > 0
    assert table.segments is not None
    assert bool(table.segments.has_mask_N.all()) == masks
    scores = [row["score"] for row in json.loads(result.written["coco"].read_text())["annotations"]]
    assert 0 <= min(scores) <= max(scores) <= 1


def test_the_task_is_told_by_the_checkpoint(models: Path, tmp_path: Path) -> None:
    def told(**options: Any) -> str:
        return task_of(LabelConfig(images=(Path("a"),), **options))

    assert told() == told(checkpoint="clipself-mini-detector") == told(checkpoint=str(models / "detector")) == "detect"
    assert told(checkpoint="clipself-mini-masks") == told(masks=tmp_path / "sam.json") == "panoptic"
    with pytest.raises(FileNotFoundError, match="no checkpoint at gone; pass a folder that a `train` command wrote"):
        told(checkpoint="gone")
    with pytest.raises(ValueError, match="holds no detector, segmenter or mask generator"):
        told(checkpoint=str(models / "photos"))
    for options, message in (
        ({"masks": Path("a"), "checkpoint": "b"}, "masks and checkpoint both say"),
        ({"masks": Path("a"), "task": "detect"}, "masks are for task panoptic, not detect"),
        ({"formats": ()}, "formats is empty; name at least one"),
    ):
        with pytest.raises(ValueError, match=message):
            told(**options)


def test_pictures_that_all_fail_are_an_error(blocks: list[Blocks], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of 1 pictures has an answer; the first: .*a\.png"):
        label(tmp_path / "a.png", tmp_path / "out")
    assert run.label is clipself.label
