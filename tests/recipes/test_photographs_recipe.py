"""The recipe on photographs, shortened: drawn pictures and a toy CLIP in, every stage and the report out."""

import importlib
import io
import json
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.support.tiny import tiny_openai_clip

from clipself.backbones.export import save_clip
from clipself.backbones.loading import load_clip
from clipself.data.labelled import open_labelled
from clipself.data.scenes import SceneMaker, write_scenes

RECIPE = Path(__file__).parents[2] / "recipes/photographs"
PARTS = ("data", "curve", "carry", "report", "run")
SIDE = 64


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The recipe's files as modules, everything small."""
    monkeypatch.syspath_prepend(str(RECIPE))
    parts = {name: importlib.import_module(name) for name in PARTS}
    monkeypatch.setattr(parts["data"], "HELD_BACK", 2)
    for name in ("carry", "report"):
        monkeypatch.setattr(parts[name], "SIDE", SIDE)
    monkeypatch.setattr(parts["report"], "PICTURES", 1)
    runs: dict[str, dict[str, Any]] = {"patches-320": {}, "proposals-480": {"after": "patches-320"}}
    held = parts["run"].RUNS
    monkeypatch.setattr(
        parts["run"],
        "RUNS",
        {name: replace(held[name], image_size=SIDE, steps=2, every=1, **changes) for name, changes in runs.items()},
    )
    heads: dict[str, dict[str, Any]] = {"SEGMENTER": {"crop": 64, "shortest": (64,)}, "DETECTOR": {"image_size": 64}}
    for name, changes in heads.items():
        settings = getattr(parts["carry"], name)
        inner = "detector" if name == "DETECTOR" else "segmenter"
        changes = {inner: {"image_size": changes.pop("image_size", 64)}, **changes}
        monkeypatch.setattr(parts["carry"], name, {**settings, **changes, "max_steps": 1, "batch_size": 1})
    yield parts
    for name in PARTS:
        sys.modules.pop(name, None)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Scenes in the layout of the photographs: a COCO sample, and a pool in a shard, half of it with boxes."""
    scenes = write_scenes(tmp_path / "scenes", train=6, val=2, size=(96, 96))
    coco = tmp_path / "data/coco_sample"
    (coco / "images").mkdir(parents=True)
    (coco / "annotations").mkdir()
    for half in ("train", "val"):
        (scenes / half).rename(coco / f"images/{half}2017")
        for kind in ("instances", "panoptic"):
            source = scenes / f"annotations/{kind}_{half}.json"
            source.rename(coco / f"annotations/{kind}_{half}2017.json")
        (scenes / f"annotations/panoptic_{half}").rename(coco / f"annotations/panoptic_{half}2017")
    pool = tmp_path / "data/photo_pool"
    pool.mkdir()
    maker = SceneMaker(size=(96, 96), seed="pool")
    with tarfile.open(pool / "drawn-0000.tar", "w") as tar:
        for index in range(4):
            stream = io.BytesIO()
            maker(index).image.save(stream, "JPEG")
            info = tarfile.TarInfo(f"drawn_{index}.jpg")
            info.size = stream.tell()
            stream.seek(0)
            tar.addfile(info, stream)
    images = [
        {"id": 7 + index, "file_name": f"drawn_{index}.jpg", "width": 96, "height": 96, "source": source}
        for index, source in enumerate(("voc2007", "freiburg_groceries"))
    ]
    boxes = [
        {"id": index, "image_id": 7 + index, "category_id": 3 - index, "bbox": [10, 10, 60, 60], "area": 3600}
        for index in range(2)
    ]
    categories = [{"id": 2, "name": "cereal"}, {"id": 3, "name": "dog"}]
    (pool / "boxes.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    return tmp_path / "data"


def test_nothing_held_back_is_distilled_on_and_classes_meet_by_name(
    recipe: dict[str, ModuleType], data: Path, tmp_path: Path
) -> None:
    found = recipe["data"].prepare(data, tmp_path / "out")
    held_back = {row["file_name"] for row in json.loads(found.held_back.read_text())["images"]}
    seen = {path.name for path in found.pictures.rglob("*.jpg")}
    train = {path.name for path in (data / "coco_sample/images/train2017").iterdir()}
    assert len(held_back) == 2
    assert seen == {f"drawn_{index}.jpg" for index in range(4)} | (train - held_back)
    assert len(open_labelled(found.held_back, found.images("train2017"))) == 2
    boxes, detection = (json.loads(path.read_text()) for path in (found.boxes, found.detection))
    assert not held_back & {Path(row["file_name"]).name for row in boxes["images"]}
    assert all((found.pictures / row["file_name"]).is_file() for row in boxes["images"])
    assert len(boxes["images"]) == len(detection["images"]) + 1 == 2 + 4  # things of the groceries are not all boxed
    names = {row["id"]: row["name"] for row in boxes["categories"]}
    assert len(names) == len(set(names.values()))
    official = json.loads((data / "coco_sample/annotations/instances_train2017.json").read_text())
    spoken = {row["id"]: row["name"] for row in official["categories"]}
    first = next(row for row in boxes["images"] if row["file_name"].startswith("coco/"))
    file = Path(first["file_name"]).name
    identity = next(row["id"] for row in official["images"] if row["file_name"] == file)
    ours = [(names[row["category_id"]], row["bbox"]) for row in boxes["annotations"] if row["image_id"] == first["id"]]
    theirs = [
        (spoken[row["category_id"]], row["bbox"]) for row in official["annotations"] if row["image_id"] == identity
    ]
    assert ours == theirs
    assert len({row["id"] for row in boxes["annotations"]}) == len(boxes["annotations"])


def test_a_mean_is_that_of_the_weights(recipe: dict[str, ModuleType], tmp_path: Path) -> None:
    run: Any = recipe["run"]
    run.MEANS, runs = {"mean-480": ("one", "two", "three")}, {}
    run.RUNS = dict.fromkeys(run.MEANS["mean-480"])
    for place, name in enumerate(run.RUNS):
        with torch.random.fork_rng():
            torch.manual_seed(place)
            clip = tiny_openai_clip()
            for parameter in clip.trunk.tower.parameters():
                parameter.data += 0.1 * torch.randn(parameter.shape)
        folder = save_clip(clip, tmp_path / f"runs/{name}/student", card={"steps": place})
        (folder.parent / "result.json").write_text('{"steps": 1}')
        runs[name] = load_file(folder / "open_clip_model.safetensors")
    words = ["--data", str(tmp_path), "--model", "unused", "--out", str(tmp_path), "--stages", "mean-480"]
    run.main(words)
    found = load_file(tmp_path / "runs/mean-480/student/open_clip_model.safetensors")
    for name, value in found.items():
        torch.testing.assert_close(value, torch.stack([held[name] for held in runs.values()]).mean(0))
    card = json.loads((tmp_path / "runs/mean-480/student/model_card.json").read_text())
    assert card["mean_of"] == ["one", "two", "three"]
    assert card["steps"] == 2


def test_average_precision_of_names_in_a_picture(recipe: dict[str, ModuleType]) -> None:
    scores = torch.tensor([0.1, 0.9, 0.3, 0.8])
    assert recipe["curve"].average_precision(scores, torch.tensor([1])) == 1
    # ranks 2 and 4: (1/2 + 2/4) / 2
    assert recipe["curve"].average_precision(scores, torch.tensor([0, 3])) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "left_out",
    [
        pytest.param(("boxes-480", "proposals-480", "tables", "segmenter", "detector"), id="without-heads"),
        pytest.param((), id="whole", marks=pytest.mark.slow),
    ],
)
def test_every_stage_is_made_once_and_the_report_holds_them_all(
    recipe: dict[str, ModuleType],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    left_out: tuple[str, ...],
) -> None:
    model, out = save_clip(tiny_openai_clip(layers=6), tmp_path / "model"), tmp_path / "out"
    words = ["--data", str(data), "--model", str(model), "--out", str(out)]
    run: Any = recipe["run"]
    stages = [stage for stage in run.STAGES if stage in run.RUNS or not stage.endswith(("-320", "-480"))]
    stages = [stage for stage in stages if stage not in left_out]
    runs = [name for name in run.RUNS if name not in left_out]
    curve: Any = recipe["curve"].Curve
    measured, measure = list[int](), curve._measure

    def killed(self: Any, step: int, student: Any) -> None:
        measured.append(step)
        if measured.count(2) == 1 and step == 2:
            raise InterruptedError("killed")
        measure(self, step, student)

    monkeypatch.setattr(curve, "_measure", killed)
    monkeypatch.setitem(run.SETTINGS, "save_every", 1)
    with pytest.raises(InterruptedError):
        run.main([*words, "--stages", "data", "patches-320"])
    assert measured == [0, 1, 2]
    run.main([*words, "--stages", *stages])
    assert measured[3] == 2  # what was kept is not made again
    report = json.loads((out / "report.json").read_text())
    assert set(report["models"]) == {"original", *runs}
    for title in report["models"]:
        assert report["instances"][title]["boxes"] is not None
        assert report["panoptic"][title]["stuff_masks"] is not None
        assert left_out or {"miou", "pq", "kept"} <= set(report["carried"][title])
    assert report["panoptic"]["original"]["like"] == pytest.approx(100, abs=1e-3)
    for title in ("original", report["chosen"]):
        assert (report["carried"][title]["catseg"] is None) == bool(left_out)
        assert "novel" in report["carried"][title]
    points = json.loads((out / "curve.json").read_text())["runs"]
    assert {name: [point["step"] for point in found] for name, found in points.items()} == {
        name: [0, 1, 2] for name in runs
    }
    for name in ("index.html", "curve.png", "pictures/kmeans-0.png", "pictures/query-0.png", "report.md"):
        assert (out / name).is_file()
    shipped = out / "package"
    assert {value.dtype for value in load_file(shipped / "open_clip_model.safetensors").values()} == {torch.float16}
    assert json.loads((shipped / "model_card.json").read_text())["refined_by"].startswith("CLIPSelf")
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        pair = [load_clip(folder).encode_image(images) for folder in (shipped, report["models"][report["chosen"]])]
    torch.testing.assert_close(pair[0], pair[1], atol=2e-3, rtol=0)
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.json") if "runs" in path.parts}
    count = len(measured)
    run.main([*words, "--stages", *stages])
    assert len(measured) == count
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
