"""The comparison: its numbers are those of each family's own evaluation, its rows are kept, a picture is drawn."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.support.panoptic import write_world
from tests.support.tiny import tiny_openai_clip, tiny_resnet_clip

from clipself.backbones.export import save_clip
from clipself.backbones.loading import load_clip
from clipself.data.panoptic import PanopticFile
from clipself.data.semantic import open_semantic
from clipself.panoptic.evaluate import evaluate_panoptic
from clipself.panoptic.settings import JudgeSettings
from clipself.regions.evaluate import evaluate_regions
from clipself.segmentation.evaluate import score_segmenter
from clipself.segmentation.training_free.bank import build_bank
from clipself.segmentation.training_free.regions import region_map
from clipself.segmentation.training_free.segmenter import TrainingFree
from clipself.segmentation.training_free.settings import TrainingFreeSettings
from clipself.segmentation.training_free.table import training_free_table
from clipself.workflows import compare
from clipself.workflows.compare_settings import COMPARED, MEASURED, CompareConfig
from clipself.workflows.comparison import ComparedRow, Comparison
from clipself.workflows.peak_memory import PeakMemory
from clipself.workflows.side_by_side import FREE, MEASURES, Ground

STITCHED = "kk:window=64,stride=32,stitch=1"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A ViT and a ResNet at toy sizes, three flat pictures, settings for both."""
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    annotations, images = write_world(tmp_path)
    save_clip(tiny_openai_clip(), tmp_path / "vit")
    save_clip(tiny_resnet_clip(), tmp_path / "resnet")
    return {
        "annotations": annotations, "images": images, "model": (str(tmp_path / "vit"), str(tmp_path / "resnet")),
        "readouts": ("value", "naclip", STITCHED), "image_size": 96, "shortest": 64, "window": 64, "stride": 32,
        "templates": "simple", "device": "cpu", "out": tmp_path / "out",
    }  # fmt: skip


def test_numbers_are_those_of_each_family_s_own_evaluation(world: dict[str, Any]) -> None:
    found = compare(**world)
    vit, resnet = world["model"]
    common: dict[str, Any] = {name: world[name] for name in ("annotations", "images", "device")}
    regions = [
        evaluate_regions(**common, model=(model,), image_size=96, readout="naclip", templates="simple")[0].scores
        for model in (vit, resnet)
    ]
    (segments,) = training_free_table(
        **common, model=(vit,), readouts=("naclip",), templates="simple", shortest=64, window=64, stride=32
    )
    panoptic = evaluate_panoptic(
        **common, model=(vit,), masks=str(world["annotations"]), scores=("clip",),
        judge=JudgeSettings(readout="naclip", image_size=96, templates="simple"),
    )  # fmt: skip
    row = found.rows[1]
    assert (row.model, row.readout) == (vit, "naclip")
    assert row.scores == {
        "boxes": pytest.approx(regions[0]["boxes"].top1),
        "things": pytest.approx(regions[0]["thing_masks"].top1),
        "stuff": pytest.approx(regions[0]["stuff_masks"].top1),
        "miou": pytest.approx(segments.scores.miou),
        "pq": pytest.approx(panoptic.rows[0].quality.overall.pq),
        "kept": pytest.approx(100) if regions[0]["crops"].top1 else None,
    }
    kept = found.rows[3].scores["kept"]
    first, second = regions[0]["crops"].top1, regions[1]["crops"].top1
    assert kept == (pytest.approx(100 * second / first) if first else None)


def test_a_readout_that_a_tower_does_not_have_is_a_line_below_the_table(world: dict[str, Any]) -> None:
    found = compare(**world)
    refused = [row for row in found.rows if row.refused]
    assert [(row.model, row.readout) for row in refused] == [(world["model"][1], STITCHED)]
    assert "ModifiedResNet has no blocks of tokens" in refused[0].refused
    assert f"resnet {STITCHED}: stitch=1 lets tokens meet" in found.to_table()
    told = json.loads((world["out"] / "comparison.json").read_text())
    assert [row["refused"] != "" for row in told["rows"]] == [False] * 5 + [True]
    with Image.open(world["out"] / "comparison.png") as picture:
        assert picture.width > 600


def test_rows_that_are_there_are_kept(world: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def counted(name: str) -> Callable[..., dict[str, float | None]]:
        def measure(subject: Any, ground: Ground) -> dict[str, float | None]:
            asked.append((subject.readout, name))
            if subject.readout == "naclip" and stop:
                raise KeyboardInterrupt
            return {name: 50.0 + len(asked)}

        return measure

    monkeypatch.setattr("clipself.workflows.side_by_side.MEASURES", {name: counted(name) for name in ("miou", "pq")})
    world |= {"model": world["model"][:1], "measures": ("miou", "pq"), "readouts": ("value", "naclip")}
    stop = True
    with pytest.raises(KeyboardInterrupt):
        compare(**world)
    assert asked == [("value", "miou"), ("value", "pq"), ("naclip", "miou")]
    stop = False
    found = compare(**world)
    assert asked[3:] == [("naclip", "miou"), ("naclip", "pq")]  # the first row was whole
    assert [row.scores["miou"] for row in found.rows] == [51.0, 54.0]
    compare(**world | {"readouts": ("naclip", "value", "qk")})
    assert asked[5:] == [("qk", "miou"), ("qk", "pq")]
    compare(**world | {"templates": "vild"})
    assert len(asked) == 7 + 4  # other settings: all again


def test_settings_that_make_no_table() -> None:
    given: dict[str, Any] = {"annotations": "a.json", "images": "a"}
    with pytest.raises(
        ValueError, match=r"unknown measure 'iou', expected some of \['regions', 'miou', 'pq', 'crops'\]"
    ):
        CompareConfig(**given, measures=("iou",))
    with pytest.raises(ValueError, match="readouts names value twice"):
        CompareConfig(**given, readouts=("value", "gem", "value"))
    with pytest.raises(ValueError, match="model names nothing"):
        CompareConfig(**given, model=())
    with pytest.raises(ValueError, match="unknown readout 'velue'"):
        compare(**given, readouts=("velue",))
    assert {*MEASURES, "crops"} == set(MEASURED)
    assert len(COMPARED) >= 12
    assert set(FREE) <= set(CompareConfig.__dataclass_fields__)


def test_the_table_marks_the_best_and_names_the_rest() -> None:
    rows = (
        ComparedRow(model="a/one", readout="value", scores={"miou": 40.0, "pq": None}, minutes=1.5, memory_mib=100.0),
        ComparedRow(model="b/two", readout="gem", scores={"miou": 41.26, "pq": 3.0}, minutes=0.25),
    )
    table = Comparison(rows=rows, settings={}, titles={"a/one": "one", "b/two": "two"}).to_table()
    assert [line.split() for line in table.splitlines()[1:]] == [
        ["model", "readout", "mIoU", "PQ", "min", "MiB"],
        ["-----", "-------", "-----", "----", "----", "---"],
        ["one", "value", "40.0", "-", "1.50", "100"],
        ["two", "gem", "41.3*", "3.0", "0.25", "-"],
    ]
    assert replace(rows[0], refused="no") != rows[0]


def test_the_most_memory_of_a_piece_of_work() -> None:
    with PeakMemory(torch.device("cpu")) as quiet:
        pass
    with PeakMemory(torch.device("cpu")) as busy:
        held = torch.ones(64, 2**20)  # 256 MiB
        total = float(held.sum())
    assert total == 64 * 2**20
    if quiet.mib is not None:
        assert busy.mib is not None
        assert 200 < busy.mib - quiet.mib < 400


def test_corrclip_by_stored_masks_and_a_bank(world: dict[str, Any]) -> None:
    """The true masks as regions, and three pictures without labels as a bank: the same as by hand."""
    world |= {
        "model": world["model"][:1], "measures": ("miou",), "readouts": ("corrclip",), "masks": world["annotations"],
        "bank": world["images"],
    }  # fmt: skip
    (row,) = compare(**world).rows
    clip, data = load_clip(world["model"][0]), PanopticFile(world["annotations"], world["images"])
    regions = {}
    for index in range(len(data)):
        truth = data.read(index)
        masks = torch.stack([torch.from_numpy(truth.ids_HW == segment.id) for segment in truth.segments])
        regions[truth.image.tobytes()] = region_map(masks)
    settings = TrainingFreeSettings(readout="corrclip", templates="simple", shortest=64, window=64, stride=32)

    def by_pixels(picture: Image.Image) -> torch.Tensor:
        return regions[picture.tobytes()]

    bank = build_bank(clip, sorted(world["images"].iterdir()), readout="corrclip", regions=by_pixels, shortest=64)
    segmenter = TrainingFree(clip, data.class_names, settings, regions=by_pixels, bank=bank)
    expected = score_segmenter(segmenter, open_semantic(world["annotations"], images=world["images"])).scores.miou
    assert row.scores == {"miou": pytest.approx(expected)}
    with pytest.raises(ValueError, match="masks come from one of them"):
        compare(**world, checkpoint="clipself-mini-masks")
