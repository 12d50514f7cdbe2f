"""Rows of detection, segmentation and panoptic segmentation: official layouts, the numbers of the plain commands."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.detection.detectors.test_published import settings as fvit_settings
from tests.support.reproduction import (
    changed_rows,
    eva_state,
    small_towers,
    write_ade_panoptic,
    write_catseg,
    write_coco,
    write_eva_weights,
    write_fvit,
    write_lvis,
    write_odise,
    write_segmentation,
    write_zero_shot,
)

from clipself.backbones.loading import blank_clip
from clipself.data.prepare import prepare
from clipself.detection.evaluate import evaluate_detector
from clipself.detection.recipes import DETECT_RECIPES
from clipself.detection.report import DetectionReport
from clipself.panoptic.evaluate import evaluate_panoptic
from clipself.panoptic.imported import import_odise
from clipself.segmentation.evaluate import evaluate_segmenters
from clipself.segmentation.imported import import_segmenter
from clipself.workflows.imports import import_detector
from clipself.workflows.reproduction import listing, report, rows, run
from clipself.workflows.reproduction.calls import CALLS
from clipself.workflows.reproduction.report import Reproduction, RowResult
from clipself.workflows.reproduction.run import reproduce


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EVA-CLIP's files."""
    folder = tmp_path_factory.mktemp("towers")
    write_eva_weights(folder)
    return folder


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Settings of a run on empty data/ and weights/, with towers and recipes at toy size."""
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    for name, masks in (("ov-coco-b16", False), ("ov-lvis-b16", True)):
        detector = fvit_settings(mask_convs=4 if masks else 0, rpn_norm=masks, score_threshold=1e-4)
        tiny = replace(DETECT_RECIPES[name](), detector=detector)
        monkeypatch.setitem(DETECT_RECIPES, name, partial(replace, tiny))
    for name in ("data", "weights"):
        (tmp_path / name).mkdir()
    with small_towers(monkeypatch):
        yield {
            "data": tmp_path / "data", "weights": tmp_path / "weights", "out": tmp_path / "out", "device": "cpu",
            "partial_data": True,
        }  # fmt: skip


def with_tables(tables: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (listing, report, rows, run):
        monkeypatch.setattr(module, "TABLES", tables)


def done(found: Reproduction | str, name: str) -> RowResult:
    assert isinstance(found, Reproduction)
    result = next(one for one in found.rows if one.row == name)
    assert result.state == "done", result.why
    return result


def watched(monkeypatch: pytest.MonkeyPatch) -> list[DetectionReport]:
    """Collects every report of a detector, with all that it found."""
    seen: list[DetectionReport] = []
    real = CALLS["detect evaluate"]

    def evaluate(**settings: Any) -> Any:
        reports = real.run(**settings)
        seen.extend(reports)
        return reports

    monkeypatch.setitem(CALLS, "detect evaluate", replace(real, run=evaluate))
    return seen


def test_ov_coco_is_imported_once_and_scored_as_the_plain_commands_do(
    given: dict[str, Any], towers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, weights = given["data"], given["weights"]
    write_coco(data)
    zero_shot = write_zero_shot(data)
    shutil.copy(towers / "EVA02_CLIP_B_psz16_s8B.pt", weights)
    released = weights / "fvit_eva_vitb16_ovcoco_clipself_patches.pth"
    write_fvit(released, classes=65, masks=False)
    seen = watched(monkeypatch)
    found = reproduce(tables=("table3a",), **given)
    mine = done(found, "table3a/fvit-b16-patches")
    folder, classes = import_detector(
        released, given["out"] / "plain", recipe="ov-coco-b16", pretrained=str(weights / "EVA02_CLIP_B_psz16_s8B.pt")
    )
    assert (len(classes.base), len(classes.novel)) == (48, 17)
    plain = {"checkpoint": str(folder), "images": data / "coco/val2017", "split": "ov-coco", "device": "cpu"}
    (told,) = evaluate_detector(**plain, annotations=zero_shot)
    expected = {"novel": told.summary["AP50 novel"], "base": told.summary["AP50 base"], "all": told.summary["AP50 all"]}
    assert {name: mine.scores[name] for name in expected} == expected
    assert (mine.images, mine.listed) == (3, 3)
    assert seen[0].results  # weights that mean nothing find things, though not the right ones
    assert seen[0].results == told.results
    (again,) = evaluate_detector(**plain, annotations=data / "coco/annotations/instances_val2017.json")
    assert again.results == told.results  # the official file holds the same
    assert [line.split()[1:3] for line in mine.commands] == [["detect", "import"], ["detect", "evaluate"]]
    # another file of that name is imported anew, the same one is not
    made: list[str] = []
    real = CALLS["detect import"]

    def noted(**settings: Any) -> Any:
        made.append(settings["out"])
        return real.run(**settings)

    monkeypatch.setitem(CALLS, "detect import", replace(real, run=noted))
    reproduce(tables=("table3a",), **given, overwrite=True)
    assert made == []
    state = torch.load(released, weights_only=True)
    torch.save({**state, "note": torch.zeros(99)}, released)
    with pytest.raises(ValueError, match="was found by other stamps"):
        reproduce(tables=("table3a",), **given)
    reproduce(tables=("table3a",), **given, overwrite=True)
    assert made == [str(given["out"] / "made/fvit-coco-b16-patches")]
    assert isinstance(found, Reproduction)
    states = {one.row: one.state for one in found.rows}
    assert states["table3a/vild"] == "refused"
    assert states["table3a/fvit-b16"] == "missing"
    assert "F-ViT on the original tower was not released" in found.missing
    assert f"--annotations {data}/coco/annotations/instances_train2017.json" in found.missing


def test_an_import_that_was_stopped_is_made_again(
    given: dict[str, Any], towers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, weights = given["data"], given["weights"]
    write_coco(data)
    shutil.copy(towers / "EVA02_CLIP_B_psz16_s8B.pt", weights)
    write_fvit(weights / "fvit_eva_vitb16_ovcoco_regionclip.pth", classes=65, masks=False)
    real = CALLS["detect import"]

    def stopped(**settings: Any) -> None:
        real.run(**settings)
        (Path(settings["out"]) / "detector.json").write_text("{}")
        raise KeyboardInterrupt

    some = {"tables": ("table3a",), "rows": ("table3a/fvit-b16-regionclip",)}
    monkeypatch.setitem(CALLS, "detect import", replace(real, run=stopped))
    with pytest.raises(KeyboardInterrupt, match="0 rows are done"):
        reproduce(**some, **given)
    monkeypatch.setitem(CALLS, "detect import", real)
    assert done(reproduce(**some, **given), "table3a/fvit-b16-regionclip").images == 3


def test_ov_lvis_is_scored_by_mask_ap(given: dict[str, Any], towers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watched(monkeypatch)
    data, weights = given["data"], given["weights"]
    write_lvis(data)
    shutil.copy(towers / "EVA02_CLIP_B_psz16_s8B.pt", weights)
    write_fvit(weights / "fvit_eva_vitb16_ovlvis_clipself_patches.pth", classes=1203, masks=True)
    mine = done(reproduce(tables=("table3b",), **given), "table3b/fvit-b16-patches")
    (told,) = evaluate_detector(
        checkpoint=str(given["out"] / "made/fvit-lvis-b16-patches"), images=data / "lvis_v1", split="ov-lvis",
        annotations=data / "lvis_v1/annotations/lvis_v1_val.json", device="cpu", metric="lvis",
    )  # fmt: skip
    assert "mask AP" in told.title
    expected = [told.summary[name] for name in ("APr", "APc", "AP")]
    assert [mine.scores[name] for name in ("rare", "common", "ap")] == expected
    assert mine.images == 2
    assert seen[0].results
    assert seen[0].results == told.results


def test_catseg_is_scored_on_prepared_archives(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with_tables(changed_rows("table4", shortest=64, canvas=64, mode="whole"), monkeypatch)
    data, weights = given["data"], given["weights"]
    write_segmentation(data)
    write_catseg(weights / "model_base.pth")
    found = reproduce(tables=("table4",), **given)
    roots = {"ade20k-150": "ADEChallengeData2016", "ade20k-847": "ADE20K_2021_17_01"}
    roots["pascal-context-59"] = "VOCdevkit/VOC2010"
    checkpoint = import_segmenter(weights / "model_base.pth", given["out"] / "plain/catseg", method="catseg")
    for archive, root in roots.items():
        mine = done(found, f"table4/catseg2-b16/{archive}")
        labels = prepare(archive, data / root, given["out"] / "plain" / archive, partial_archive=True)
        (told,) = evaluate_segmenters(
            checkpoint=(checkpoint,), annotations=labels, shortest=64, canvas=64, mode="whole", class_cap=256,
            device="cpu",
        )  # fmt: skip
        assert (mine.scores["miou"], mine.scores["macc"]) == (told.scores.miou, told.scores.macc)
    assert isinstance(found, Reproduction)
    assert {one.state for one in found.rows} == {"done", "missing"}
    assert "segment train --recipe catseg-v1-b" in found.missing


@pytest.mark.slow
def test_odise_and_clipself_judge_the_same_masks(given: dict[str, Any], tmp_path: Path) -> None:
    data, weights = given["data"], given["weights"]
    write_ade_panoptic(data)
    write_odise(weights, tmp_path)
    found = reproduce(tables=("table5",), **given)
    clip: dict[str, Any] = {
        "model": "ViT-L-14-336-quickgelu",
        "pretrained": str(weights / "openai_vit_l14_336.safetensors"),
    }
    masks = import_odise(
        weights / "odise_label_coco_50e-b67d2efc.pth", tmp_path / "plain", **clip,
        diffusion=str(weights / "stable-diffusion-v1-3"),
    )  # fmt: skip
    refined = str(weights / "trained/openai_vitl14_336_coco_clipself_patches/blended")
    ade = data / "ADEChallengeData2016"
    for name, judged in (
        ("odise", {"model": (clip["model"],), "pretrained": clip["pretrained"],
                   "judge": {"by": "tokens", "image_size": 336, "templates": "simple"}}),
        ("odise-clipself", {"model": (refined,), "judge": {"image_size": 672, "templates": "simple"}}),
    ):  # fmt: skip
        mine = done(found, f"table5/{name}")
        told = evaluate_panoptic(
            checkpoint=str(masks), annotations=ade / "ade20k_panoptic_val.json", images=ade / "images/validation",
            scores=("both-odise",), device="cpu", **judged,
        ).rows[0]  # fmt: skip
        expected = {"pq": told.quality.overall.pq, "map": told.mask_ap, "miou": told.miou}
        assert mine.scores == pytest.approx(expected, nan_ok=True)
    first = json.loads((given["out"] / "reproduction.json").read_text())["rows"][0]
    assert first["published"]["pq"]["value"] == 22.6
    assert (given["out"] / "made/odise.json").is_file()


@pytest.mark.slow
def test_a_real_size_row_of_table2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EVA-02 CLIP B/16 at its published shapes, filled by rule, at 1024 px."""
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    with_tables(changed_rows("table2", templates="simple"), monkeypatch)  # 63 sentences a name take minutes
    write_coco(tmp_path / "data", count=1)
    (tmp_path / "weights").mkdir()
    clip = blank_clip("EVA02-B-16")
    original, refined = (
        eva_state(visual_only=alone, seed=seed, clip=clip) for alone, seed in ((False, "original"), (True, "refined"))
    )
    torch.save(original, tmp_path / "weights/EVA02_CLIP_B_psz16_s8B.pt")
    torch.save({"state_dict": refined}, tmp_path / "weights/eva_vitb16_coco_clipself_patches.pt")
    found = reproduce(
        tables=("table2",), rows=("table2/eva-b16-patches",), data=tmp_path / "data", weights=tmp_path / "weights",
        out=tmp_path / "out", device="cpu", partial_data=True,
    )  # fmt: skip
    mine = done(found, "table2/eva-b16-patches")
    assert mine.images == 1
    kept = json.loads((tmp_path / "out/rows/table2/eva-b16-patches.json").read_text())
    assert kept["report"]["settings"]["image_size"] == 1024
