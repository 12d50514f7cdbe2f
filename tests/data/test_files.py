"""Image files and annotation files, good and bad."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.pictures import draw_pictures, write_coco

from clipself.data.distill import DistillDataset, collate_distill
from clipself.data.images import read_image
from clipself.data.labelled import CocoInstances, CocoPanoptic, RegionSamples
from clipself.data.preprocess import Preprocess
from clipself.data.regions import ImageRegions, choose_proposals, draw_patches
from clipself.data.sources import CocoImages, ImageFolder
from clipself.engine.loader import make_loader
from clipself.engine.sampler import EpochSampler

PLAIN = Preprocess(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def save(path: Path, mode: str) -> Path:
    """A picture of two colours, dark on the left, in any mode."""
    grey = np.full((6, 8), 200, dtype=np.uint8)
    grey[:, :4] = 50
    if mode == "I;16":
        Image.fromarray(grey.astype(np.uint16) * 257).save(path)
    elif mode == "exif":
        exif = Image.Exif()
        exif[0x0112] = 6  # turn a quarter to the right
        Image.fromarray(grey).convert("RGB").save(path, exif=exif, quality=100)
    else:
        Image.fromarray(grey).convert(mode).save(path)
    return path


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", "png"), ("P", "png"), ("RGBA", "png"), ("I;16", "png"), ("CMYK", "jpg"), ("1", "png")]
)
def test_any_mode_becomes_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    image = read_image(save(tmp_path / f"a.{suffix}", mode))
    assert (image.mode, image.size) == ("RGB", (8, 6))
    left, right = image.getpixel((1, 3)), image.getpixel((6, 3))
    assert isinstance(left, tuple)
    assert isinstance(right, tuple)
    if mode != "1":
        assert left[0] == pytest.approx(50, abs=12)
        assert right[0] == pytest.approx(200, abs=12)


def test_orientation_is_applied(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "a.jpg", "exif"))
    assert image.size == (6, 8)
    top = image.getpixel((3, 1))
    assert isinstance(top, tuple)
    assert top[0] < 100


def test_one_pixel_high_images_work(tmp_path: Path) -> None:
    Image.new("RGB", (200, 1), (255, 0, 0)).save(tmp_path / "a.png")
    student, _ = PLAIN.student_image(read_image(tmp_path / "a.png"), 64)
    assert student.shape == (3, 64, 64)
    assert float(student[0, 0].min()) == 1.0
    crops = PLAIN.teacher_crops(read_image(tmp_path / "a.png"), draw_patches((1, 200), random.Random(0)).crop_boxes, 32)
    assert crops.shape[1:] == (3, 32, 32)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"no picture", "is not an image that can be read", id="text"),
        pytest.param(None, "is damaged or cut short", id="truncated"),
    ],
)
def test_bad_images_are_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "bad.jpg"
    if content is None:
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        content = path.read_bytes()[:-900]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"bad\.jpg {message}"):
        read_image(path)


def test_folders(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "a" / "b", 2)
    draw_pictures(tmp_path / ".hidden", 1)
    (tmp_path / "a" / "notes.txt").write_text("x")
    assert [path.name for path in ImageFolder(tmp_path).paths] == ["0.png", "1.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no images"):
        ImageFolder(tmp_path / "empty")
    (tmp_path / "pictures.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"pictures\.zip is a file; pass a folder of images \(an archive unpacked"):
        ImageFolder(tmp_path / "pictures.zip")
    with pytest.raises(FileNotFoundError, match="no folder at"):
        ImageFolder(tmp_path / "nowhere")


def bad_annotations() -> list[object]:
    gone = {"images": [{"id": 1, "file_name": "gone.png"}], "annotations": [], "categories": []}
    return [
        pytest.param("{", ValueError, "is not valid JSON", id="cut-short"),
        pytest.param("[]", ValueError, "is an empty list; pass a COCO instances file", id="a-list"),
        pytest.param(
            json.dumps(gone),
            FileNotFoundError,
            r"1 of 1 images named by .* are missing, such as .*gone\.png",
            id="missing",
        ),
        pytest.param(json.dumps({"images": [], "annotations": []}), ValueError, "lists no images", id="empty"),
    ]


@pytest.mark.parametrize(("text", "error", "message"), bad_annotations())
def test_bad_annotation_files(tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(error, match=message):
        CocoImages(tmp_path / "a.json", tmp_path)


def test_proposals_are_read_and_empty_ones_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    draw_pictures(tmp_path, 2)
    annotations = write_coco(tmp_path, {"0.png": [[1, 2, 3, 4]], "1.png": []})
    results = tmp_path / "proposals.json"
    results.write_text(json.dumps([{"image_id": 1, "bbox": [5, 6, 20, 10], "score": 0.9}]))
    source = CocoImages(annotations, tmp_path, proposals=results)
    assert source.boxes_xywh(0, size=(60, 80)).tolist() == []
    assert source.boxes_xywh(1, size=(60, 80)).tolist() == [[5.0, 6.0, 20.0, 10.0]]
    assert source.boxes_xywh(1, size=(60, 22)).tolist() == [[5.0, 6.0, 17.0, 10.0]]  # over the border: clipped
    more = write_coco(tmp_path, {"0.png": [[1, 2, 3, 4]], "1.png": [], "2.png": [[5, 5, 9, 9], [1, 1, 8, 8]]})
    whole = more.rename(tmp_path / "whole.json")
    annotations = write_coco(tmp_path, {"0.png": [[1, 2, 3, 4]], "1.png": []})
    report = CocoImages(annotations, tmp_path, proposals=whole).report
    assert report.read == {"pictures": 1, "rows": 1}
    assert [str(one) for one in report.remarks] == [
        "2 boxes of other pictures left out (annotations[1], annotations[2])"
    ]
    held = json.loads(whole.read_text())
    held["images"] = [{**row, "id": str(row["id"])} for row in held["images"]]
    held["annotations"] = [{**row, "image_id": str(row["image_id"])} for row in held["annotations"]]
    whole.write_text(json.dumps(held))
    with pytest.raises(ValueError, match=r"whole\.json: images\[0\]: its id '0' is text, the ids that the file lists"):
        CocoImages(annotations, tmp_path, proposals=whole)
    corners = [{"image_id": 1, "bbox": box} for box in ([30, 10, 55, 30], [2, 3, 8, 9])]  # 30 + 55 > 80
    results.write_text(json.dumps(corners))
    told = json.loads(annotations.read_text())
    told["images"] = [{**row, "height": 60, "width": 80} for row in told["images"]]
    (tmp_path / "told.json").write_text(json.dumps(told))
    CocoImages(tmp_path / "told.json", tmp_path, proposals=results)
    assert "are they corners (x0, y0, x1, y1)? expected x, y, width, height (row 0, 1.png)" in caplog.text
    shares = json.dumps([{"image_id": 1, "bbox": [0.1, 0.2, 0.5, 0.5]}])
    for content, message in (
        (shares, "all of its 1 boxes lie within the first pixel .* are they shares of it"),
        ("[]", "holds no proposals"),
        ('[{"x": 1}]', "is not a list of"),
        ('{"a": 1}', "is not a list of"),
    ):
        results.write_text(content)
        with pytest.raises(ValueError, match=message):
            CocoImages(annotations, tmp_path, proposals=results)


def test_proposals_by_the_published_rule() -> None:
    boxes_xywh = torch.tensor([[0.0, 0.0, 7.0, 9.0], [10.0, 12.0, 8.0, 8.0], [30.0, 10.0, 30.0, 30.0]])
    found = choose_proposals(boxes_xywh, size=(40, 60))
    assert found.boxes.tolist() == [[10.0, 12.0, 18.0, 20.0], [30.0, 10.0, 60.0, 40.0]]  # 7 x 9 is below 8 x 8
    assert found.crop_boxes.tolist() == [[8.0, 10.0, 20.0, 22.0], [22.5, 2.5, 60.0, 40.0]]  # 1.5 times, clipped
    assert choose_proposals(boxes_xywh, size=(40, 60), max_regions=2).boxes.tolist() == found.boxes[:1].tolist()


def test_an_image_without_fit_proposals_gives_its_corner() -> None:
    found = choose_proposals(torch.tensor([[0.0, 0.0, 7.0, 9.0]]), size=(41, 63))
    assert found.boxes.tolist() == [[0.0, 0.0, 15.75, 10.25]]
    assert found.crop_boxes.tolist() == [[0.0, 0.0, 15.0, 10.0]]


def test_mirrored_regions_swap_left_and_right() -> None:
    regions = ImageRegions(boxes=torch.tensor([[1.0, 2.0, 4.0, 8.0]]), crop_boxes=torch.tensor([[0.0, 1.0, 6.0, 9.0]]))
    mirrored = regions.mirrored(10)
    assert mirrored.boxes.tolist() == [[6.0, 2.0, 9.0, 8.0]]
    assert mirrored.crop_boxes.tolist() == [[4.0, 1.0, 10.0, 9.0]]
    with pytest.raises(ValueError, match=r"must both be \(R, 4\)"):
        ImageRegions(boxes=torch.zeros(2, 4), crop_boxes=torch.zeros(1, 4))


def dataset(folder: Path, **options: object) -> DistillDataset:
    return DistillDataset(ImageFolder(folder), preprocess=PLAIN, student_size=64, crop_size=32, **options)  # type: ignore[arg-type]


def test_regions_and_crops_belong_together(tmp_path: Path) -> None:
    """The student's region of a picture of two colours has the colour of its crop."""
    pixels = np.zeros((40, 80, 3), dtype=np.uint8)
    pixels[:, 40:] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    data = dataset(tmp_path, max_split=2)
    for epoch in range(6):
        sample = data[(epoch, 0)]
        for box, crop in zip(sample.boxes_norm, sample.crops_R3hw, strict=True):
            left, top, right, bottom = (box * 64).round().int().tolist()
            region = sample.image_3HW[:, top:bottom, left:right]
            shown = crop[:, crop.shape[1] // 2]  # the middle row has no padding above or below
            assert float(region.mean()) == pytest.approx(float(shown.mean()), abs=0.35)


def test_same_seed_same_crops_whatever_the_workers(tmp_path: Path) -> None:
    data = dataset(draw_pictures(tmp_path, 7), flip=0.5)
    seen = []
    for workers in (0, 1, 2):
        loader = iter(make_loader(data, EpochSampler(7, batch_size=2, seed=3), workers=workers))
        seen.append([next(loader) for _ in range(5)])
    for one, two in ((seen[0], seen[1]), (seen[0], seen[2])):
        for a, b in zip(one, two, strict=True):
            assert a.names == b.names
            assert torch.equal(a.crops_R3hw, b.crops_R3hw)
            assert torch.equal(a.images_B3HW, b.images_B3HW)


def test_epochs_draw_other_grids(tmp_path: Path) -> None:
    data = dataset(draw_pictures(tmp_path, 1))
    assert len({len(data[(epoch, 0)].boxes_norm) for epoch in range(8)}) > 2


def test_ranks_share_the_global_batch_and_offsets_continue_it() -> None:
    def take(count: int, **options: int) -> list[list[tuple[int, int]]]:
        stream = iter(EpochSampler(11, seed=1, **options))  # type: ignore[arg-type]
        return [next(stream) for _ in range(count)]

    whole = take(6, batch_size=4)
    parts = [take(6, batch_size=2, rank=rank, world_size=2) for rank in (0, 1)]
    assert [a + b for a, b in zip(*parts, strict=True)] == whole
    assert take(3, batch_size=4, start_batch=3) == whole[3:]
    assert len({index for batch in whole[:2] for _, index in batch}) == 8
    assert whole[0][0][0] == 0
    assert whole[2][0][0] == 1  # 11 images are two batches of four; the rest is dropped


def test_a_damaged_image_gives_its_place_to_the_next(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    draw_pictures(tmp_path, 3)
    (tmp_path / "1.png").write_bytes(b"broken")
    images = dataset(tmp_path)
    batch = collate_distill([images[(epoch, index)] for epoch, index in ((0, 0), (0, 1), (0, 2), (1, 1))])
    assert [Path(name).name for name in batch.names] == ["0.png", "2.png", "2.png", "2.png"]
    assert caplog.text.count("1.png is not an image") == 1  # not in every epoch
    with pytest.raises(ValueError, match=r"1\.png is not an image"):
        dataset(tmp_path, skip_unreadable=False)[(0, 1)]


def test_a_folder_of_damaged_images(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match="none of the 1 images can be read"):
        dataset(tmp_path)[(0, 0)]


def panoptic_set(folder: Path) -> Path:
    """One picture: a thing (id 1) on stuff (id 300), with a speck below the area filter."""
    ids = np.full((40, 60), 300, dtype=np.int32)
    ids[10:30, 20:50] = 1
    ids[0:4, 0:4] = 70000
    Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)).save(folder / "p.png")
    draw_pictures(folder, 1, size=(40, 60))
    segments = [
        {"id": 1, "category_id": 5, "bbox": [20, 10, 30, 20], "area": 600, "iscrowd": 0},
        {"id": 300, "category_id": 9, "bbox": [0, 0, 60, 40], "area": 1784, "iscrowd": 0},
        {"id": 70000, "category_id": 5, "bbox": [0, 0, 4, 4], "area": 16, "iscrowd": 0},
    ]
    held = {
        "images": [{"id": 1, "file_name": "0.png", "height": 40, "width": 60}],
        "annotations": [{"image_id": 1, "file_name": "p.png", "segments_info": segments}],
        "categories": [{"id": 9, "name": "grass", "isthing": 0}, {"id": 5, "name": "cat", "isthing": 1}],
    }
    (folder / "panoptic.json").write_text(json.dumps(held))
    return folder / "panoptic.json"


def test_panoptic_segments_by_the_published_protocol(tmp_path: Path) -> None:
    data = CocoPanoptic(panoptic_set(tmp_path), tmp_path, segments=tmp_path)
    assert (data.class_names, data.class_is_thing) == (["cat", "grass"], [True, False])
    sample = RegionSamples(data, preprocess=PLAIN, image_size=64, patch_size=8, crop_size=32)[0]
    assert sample.labels_R.tolist() == [0, 1]  # the speck is below 8 x 8 pixels
    assert sample.is_thing_R.tolist() == [True, False]
    scale = 64 / 60
    expected = torch.tensor([[20, 10, 50, 30], [0, 0, 59, 39]]) * scale / 64
    torch.testing.assert_close(sample.boxes_norm, expected.float())
    assert sample.masks_RYX is not None
    assert sample.masks_RYX.shape == (2, 8, 8)
    assert not sample.masks_RYX[:, 6:].any()
    assert sample.crops_R3hw is not None
    assert sample.crops_R3hw.shape == (2, 3, 32, 32)


def test_boxes_of_things_that_do_not_lie_around_their_mask(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = panoptic_set(tmp_path)
    held = json.loads(path.read_text())
    info = held["annotations"][0]["segments_info"][0]
    for box, read in (
        ([20, 10, 30, 20], [20, 10, 50, 30]),
        ([0, 0, 0, 0], [20, 10, 49, 29]),  # none: the bounds of the mask, by the published rule
        ([20 / 60, 10 / 40, 30 / 60, 20 / 40], [20 / 60, 10 / 40, 50 / 60, 30 / 40]),  # shares
        ([20, 10, 80, 50], [20, 10, 100, 60]),
    ):
        info["bbox"] = box
        path.write_text(json.dumps(held))
        caplog.clear()
        data = CocoPanoptic(path, tmp_path, segments=tmp_path)
        assert data.read(0).boxes[0].tolist() == pytest.approx(read)
        data.read(0)
        assert caplog.text.count("does not lie around its mask in 0.png") == (box != [20, 10, 30, 20])


def test_instances_with_bad_boxes_are_refused(tmp_path: Path) -> None:
    draw_pictures(tmp_path, 1)
    with pytest.raises(ValueError, match=r"annotations\[0\] .* has swapped corners .*, picture 0\.png"):
        CocoInstances(write_coco(tmp_path, {"0.png": [[10, 10, -5, 5]]}), tmp_path)
    with pytest.raises(ValueError, match="holds no annotations, so there is nothing to evaluate"):
        CocoInstances(write_coco(tmp_path, {"0.png": []}), tmp_path)
