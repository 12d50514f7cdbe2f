"""Damaged annotation files through every reader: read, or refused in words that name the file; nothing else."""

import json
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.support.mutations import broken_texts, mutate

from clipself.data.coco.check import check_file
from clipself.data.coco.write import truth_rows
from clipself.data.detection import CocoDetection
from clipself.data.images import read_image
from clipself.data.labelled import open_labelled
from clipself.data.ov_split import write_split
from clipself.data.panoptic import PanopticFile
from clipself.data.semantic import PanopticMaps
from clipself.data.sources import CocoImages
from clipself.metrics import coco_ap
from clipself.ops.run_lengths import encode_mask, read_run_lengths
from clipself.panoptic.generators.files import FileMasks

SIZE = (60, 80)


def write_pictures(folder: Path) -> None:
    """Three pictures and the PNGs of their segments, which every damaged panoptic file is read with."""
    (folder / "pngs").mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", SIZE[::-1], (40 * number, 90, 10)).save(folder / f"{number}.png")
        ids = np.full(SIZE, 300, dtype=np.int32)
        ids[10:30, 10:40], ids[35:55, 20:60] = 1, 70000
        colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        Image.fromarray(colours).save(folder / "pngs" / f"{number}.png")


def sound_files() -> dict[str, Any]:
    """A sound file of each kind for these pictures."""
    images = [{"id": n + 1, "file_name": f"{n}.png", "height": SIZE[0], "width": SIZE[1]} for n in range(3)]
    categories = [{"id": 3, "name": "cat", "supercategory": "animal"}, {"id": 7, "name": "dog", "isthing": 1}]
    mask = np.zeros(SIZE, dtype=bool)
    mask[5:30, 5:40] = True
    polygon = [[5.0, 5.0, 40.0, 5.0, 40.0, 30.0, 5.0, 30.0]]
    rows = [
        {"id": n, "image_id": 1 + n // 2, "category_id": (3, 7)[n % 2], "bbox": [5, 5, 35, 25], "area": 875,
         "iscrowd": 0, "segmentation": polygon if n % 3 else encode_mask(mask)}
        for n in range(6)
    ]  # fmt: skip
    sky = {"id": 9, "name": "sky", "isthing": 0}
    segments = [{"id": one, "category_id": category, "iscrowd": 0, "bbox": [10, 10, 30, 20], "area": 600}
                for one, category in ((1, 3), (70000, 7), (300, 9))]  # fmt: skip
    panoptic = [{"image_id": n + 1, "file_name": f"{n}.png", "segments_info": segments} for n in range(3)]
    return {
        "instances": {"images": images, "annotations": rows, "categories": categories},
        "panoptic": {"images": images, "annotations": panoptic, "categories": [*categories, sky]},
        "proposals": [{"image_id": row["image_id"], "bbox": row["bbox"], "score": 0.5} for row in rows],
        "masks": [{"file_name": "0.png", "segmentation": row["segmentation"], "score": 0.9} for row in rows],
    }  # fmt: skip


def readers(folder: Path) -> Mapping[str, list[Callable[[Path], Any]]]:
    """Kind of file -> everything that reads it, to the last picture."""

    def train(path: Path) -> list[Any]:
        data = CocoDetection(path, folder, masks=True)
        return [
            data.mask(index, place, SIZE).sum()
            for index in range(len(data))
            for place in range(len(data.labels(index)))
        ]

    def score(path: Path) -> list[float]:
        data = CocoDetection(path, folder, train=False)
        for index in range(len(data)):
            data.check_size(index, SIZE)
        truth = truth_rows(data.table, image_ids=data.ids, category_ids=data.classes.ids)
        perfect = [{**row, "score": 0.5} for row in truth["annotations"] if min(row["bbox"][2:]) > 0]
        return [coco_ap(truth, perfect).summary["AP"]]

    def regions(path: Path) -> list[Any]:
        data = open_labelled(path, folder)
        return [data.read(index) for index in range(len(data))]

    def distil(path: Path) -> list[Any]:
        data = CocoImages(path, folder)
        return [data.boxes_xywh(index, size=SIZE) for index in range(len(data))]

    def patches(path: Path) -> list[Any]:
        return list(CocoImages(path, folder, needs_boxes=False).paths)

    def proposed(path: Path) -> list[Any]:
        data = CocoImages(folder / "sound.json", folder, proposals=path)
        return [data.boxes_xywh(index, size=SIZE) for index in range(len(data))]

    def panoptic(path: Path) -> list[Any]:
        data = PanopticFile(path, folder, segments=folder / "pngs")
        data.occurring()
        return [data.read(index) for index in range(len(data))]

    def semantic(path: Path) -> list[Any]:
        data = PanopticMaps(path, folder)
        data.held.segments = folder / "pngs"
        return [data.read(index).labels_HW for index in range(len(data))]

    def stored(path: Path) -> list[Any]:
        masks = FileMasks(path, segments=folder / "pngs")
        return [masks(read_image(folder / "0.png"), file="0.png", names=["cat"])]

    return {
        "instances": [train, score, regions, distil, patches, check_file,
                      lambda path: write_split(path, folder / "split.json", train=True, novel=["dog"])],
        "panoptic": [panoptic, semantic, stored, patches, check_file],
        "proposals": [proposed, check_file],
        "masks": [stored, check_file],
    }  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mutations")
    write_pictures(folder)
    (folder / "sound.json").write_text(json.dumps(sound_files()["instances"]))
    for kind in sound_files():
        (folder / kind).symlink_to(folder / "pngs")
    return folder


def judge(place: Path, kind: str, what: str, data: bytes) -> str:
    """Reads one damaged file with each reader; anything but a sentence that names the file fails."""
    path, outcomes = place / f"{kind}.json", []
    path.write_bytes(data)
    for read in readers(place)[kind]:
        said = None
        try:
            read(path)
        except (ValueError, FileNotFoundError) as error:
            said = str(error)
        outcomes.append("read" if said is None else "refused")
        if said is not None:
            assert any(name in said for name in (path.name, ".png", "/etc/passwd")), f"{what}: names no file: {said}"
            assert len(said) < 1200, f"{what}: {len(said)} characters"
    return "/".join(sorted(set(outcomes)))


@pytest.mark.parametrize("kind", list(sound_files()))
def test_sound_files_are_read_by_all(place: Path, kind: str) -> None:
    assert judge(place, kind, "sound", json.dumps(sound_files()[kind]).encode()) == "read"
    assert judge(place, kind, "mark", b"\xef\xbb\xbf" + json.dumps(sound_files()[kind]).encode()) == "read"
    assert judge(place, kind, "UTF-16", json.dumps(sound_files()[kind]).encode("utf-16")) == "read"


@pytest.mark.parametrize("kind", list(sound_files()))
def test_files_that_are_none(place: Path, kind: str) -> None:
    for what, data in broken_texts(sound_files()[kind]):
        assert judge(place, kind, what, data) == "refused", what


def many(place: Path, *, count: int, seed: int) -> Counter[str]:
    rng = random.Random(seed)
    sound, outcomes = sound_files(), Counter[str]()
    for number in range(count):
        kind = list(sound)[number % len(sound)]
        what, made = mutate(sound[kind], rng, faults=1 + number % 3)
        outcomes[judge(place, kind, f"{kind}, {what}", json.dumps(made).encode("utf-8", "surrogatepass"))] += 1
    return outcomes


def test_some_hundred_faults(place: Path) -> None:
    outcomes = many(place, count=240, seed=0)
    assert outcomes["refused"] > 60  # the faults are faults
    assert outcomes["read"] > 20


@pytest.mark.slow
def test_two_thousand_faults(place: Path) -> None:
    assert sum(many(place, count=2_000, seed=random.randrange(2**31)).values()) == 2_000


@pytest.mark.parametrize("listed", [SIZE, (60_000, 60_000), None], ids=["true-size", "mask-size", "no-size"])
@pytest.mark.parametrize(
    "counts", [[0, 3_600_000_000], "0PPYWY[3", [3_599_999_999, 1]], ids=["runs", "text", "a-pixel"]
)
def test_masks_of_a_giant_in_a_few_bytes_are_refused_before_they_are_made(
    place: Path, counts: Any, listed: tuple[int, int] | None
) -> None:
    files, giant = sound_files(), {"size": [60_000, 60_000], "counts": counts}
    assert int(read_run_lengths(giant)[0].sum()) == 60_000**2  # sound by itself, 3.4 GiB where it is made
    for held in (files["instances"], files["panoptic"]):
        for image in held["images"]:
            image["height"], image["width"] = listed or (None, None)
    for row in files["instances"]["annotations"]:
        row["segmentation"] = giant
    for row in files["masks"]:
        row["segmentation"] = giant
    for kind in ("instances", "masks"):
        tracemalloc.start()
        try:
            outcome = judge(place, kind, f"giants in {kind}", json.dumps(files[kind]).encode())
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert "refused" in outcome
        assert peak < 2**26, f"{kind}: {peak / 2**20:.0f} MiB"
