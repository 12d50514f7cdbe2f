"""What nobody looks at of a manifest is told."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from clipself.conformance import run
from clipself.conformance.report import to_json
from clipself.conformance.run import check_manifest, nearest_system
from clipself.conformance.watched import Watched

GOLDEN = Path(__file__).parents[1] / "golden"


def written(folder: Path, name: str, change: dict[str, Any], **arrays: Any) -> Path:
    """A golden manifest with other entries and further arrays."""
    manifest = json.loads((GOLDEN / f"{name}.json").read_text())
    for key, value in change.items():
        manifest[key] = {**manifest[key], **value} if isinstance(value, dict) else value
    path = folder / f"{name}.json"
    path.write_text(json.dumps(manifest))
    with np.load(GOLDEN / f"{name}.npz") as held:
        np.savez(folder / f"{name}.npz", **{**dict(held), **arrays})
    return path


def test_a_table_tells_what_was_not_looked_at() -> None:
    table = Watched({"a": 1, "b": {"c": 2, "d": 3}, "e": [{"f": 4}], "g": "words of a sentence", "h": 5, "i": 6})
    assert table["a"] == 1
    assert table["b"]["c"] == 2
    assert table["e"][0].get("f") == 4
    assert {**table.get("missing", {})} == {}
    assert table.unseen() == {"b.d": 3, "h": 5, "i": 6}
    assert "{h}".format_map(table) == "5"
    assert dict(**table)["i"] == 6
    assert table.unseen() == {"b.d": 3}


def test_rows_of_data_stay_plain() -> None:
    """Libraries look for `dict` itself."""
    table = Watched({"cases": [{"truth": {"annotations": [{"id": 1}]}, "name": "a"}]})
    (case,) = table["cases"]
    assert type(case["truth"]) is dict
    assert type(case["truth"]["annotations"][0]) is dict
    assert table.unseen() == {"cases.0.name": "a"}


def test_a_constant_and_an_array_that_nobody_reads_are_told(tmp_path: Path) -> None:
    """They can't have counted; whether they should have, the arrays that are compared decide."""
    path = written(tmp_path, "owl_losses", {"config": {"sharpness": 2.0, "seed": 5}}, masks=np.zeros(3))
    report = check_manifest(path)
    assert report.passed
    assert {"config.sharpness", "masks"} <= set(report.unread)
    assert "config.cases.0.alpha" not in report.unread
    assert "told and not used: " in report.to_table()
    assert "config.sharpness" in json.loads(to_json([report]))[0]["unread"]


def test_arrays_that_are_listed_and_lost_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, "owl_losses", {"arrays": {"lost_0": {"shape": [3]}}})
    assert "lists arrays that owl_losses.npz lacks: ['lost_0']" in check_manifest(path).problem


def test_arrays_of_other_kinds_of_numbers_are_read(tmp_path: Path) -> None:
    """Halves, bfloat16 as numpy keeps it, narrow integers, and double precision beside weights, which are single."""
    single = np.array([1.5, -2.0, 3.25], dtype=np.float32)
    bfloat = (single.view(np.uint32) >> 16).astype(np.uint16).view("V2")
    stored: dict[str, Any] = {"half": single.astype(np.float16), "brain": bfloat, "double": single.astype(np.float64)}
    np.savez(tmp_path / "a.npz", **stored, narrow=np.array([3], dtype=np.int32), bytes=np.array([200], dtype=np.uint8))
    for params in ([], [{"name": "a.weight", "shape": [3]}]):
        read = run.read_arrays(tmp_path / "a.json", {"params": params})
        assert all((read[name] == single).all() for name in stored)
        assert read["double"].dtype == (np.float32 if params else np.float64)
        assert {read["half"].dtype, read["brain"].dtype} == {np.dtype(np.float32)}
        assert (read["narrow"].dtype, read["bytes"].dtype) == (np.int64, np.uint8)


def test_a_manifest_that_cannot_be_run_says_why_and_the_next_one_is_run(tmp_path: Path) -> None:
    lacking = check_manifest(written(tmp_path, "owl_losses", {"config": {"cases": [{"norm": "per_example"}] * 3}}))
    assert not lacking.passed
    assert lacking.problem == "the manifest lacks 'coefficients', which this check needs"
    odd = check_manifest(written(tmp_path, "promptovd_reading", {"config": {"grid": [4, 6]}}))
    assert not odd.passed
    assert "cannot be run as it is told" in odd.problem
    assert "promptovd.py" in odd.problem


def test_sizes_in_the_name_of_a_system_may_be_others() -> None:
    known = "CAT-Seg v2 whole model, B/16 sizes"
    assert nearest_system("CAT-Seg v2 whole model, L/14 sizes") == known
    assert nearest_system("OV-DETR, published size (R101)") == "OV-DETR, published size"
    assert nearest_system("OV-DETR training step (reduced width)") == "OV-DETR training step"
    assert nearest_system("CORA detector, evaluation on RN50x4") == "CORA detector, evaluation"
    assert nearest_system("CORA") == "CORA"
    assert nearest_system("of next year") == "of next year"


def test_an_output_that_is_told_and_not_computed_fails(tmp_path: Path) -> None:
    path = written(tmp_path, "rovit_scores_losses", {"outputs": {"mask_loss": "of masks"}}, mask_loss=np.zeros(3))
    failed = [check.key for check in check_manifest(path).checks if not check.passed]
    assert failed == ["mask_loss is not checked by this version"]


def test_arrays_of_different_numbers_of_images_are_said(tmp_path: Path) -> None:
    path = written(tmp_path, "cora_losses", {}, target_labels_3=np.zeros(2, dtype=np.int64))
    assert check_manifest(path).problem == "the arrays hold target_boxes of 3 images and target_labels of 4"


def test_a_tower_is_checked_without_a_picture_of_the_tables_size(tmp_path: Path) -> None:
    path = written(tmp_path, "rovit_vit", {})
    with np.load(tmp_path / "rovit_vit.npz") as held:
        rest = {name: held[name] for name in held.files if "native" not in name}
    np.savez(tmp_path / "rovit_vit.npz", **rest)
    manifest = json.loads(path.read_text())
    manifest["arrays"] = {name: row for name, row in manifest["arrays"].items() if name in rest}
    path.write_text(json.dumps(manifest))
    report = check_manifest(path)
    assert report.passed, report.to_table()
    assert len(report.checks) == 4
