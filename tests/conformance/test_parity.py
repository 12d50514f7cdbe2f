"""The numbers of the published implementations, at the tolerances that their manifests state."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.shared import require_shared

from clipself.conformance.check import compare
from clipself.conformance.filling import fill, kind_of
from clipself.conformance.run import parity, system_of

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = (
    "clipself_preprocess", "training_free_readouts", "maskcls_losses", "fcclip_heads_small", "fcclip_fusion",
    "fcclip_fusion_validmask", "odise_fusion",
)  # fmt: skip
LARGE = ("eva02_clip_b16", "openai_vit_b16", "clipself_step")


@pytest.mark.parametrize("name", [*SMALL, *LARGE])
def test_published_numbers(name: str) -> None:
    (report,) = parity([GOLDEN / f"{name}.json"], quiet=True)
    assert report.passed, report.to_table()
    assert len(report.checks) >= 8


def test_published_widths_of_fcclip() -> None:
    (report,) = parity([require_shared("golden", "fcclip_heads_full.json")], quiet=True)
    assert report.passed, report.to_table()


def test_published_panoptic_quality() -> None:
    (report,) = parity([GOLDEN / "seg_metrics.json"], quiet=True)
    checks = [check for check in report.checks if check.key.startswith("pq/")]
    assert len(checks) == 32
    assert all(check.passed for check in checks), report.to_table()


def test_a_wrong_readout_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clipself.conformance import readouts

    monkeypatch.setitem(dict(readouts.NAMED), "SCLIP", "qq")
    arrays = dict(np.load(GOLDEN / "training_free_readouts.npz"))
    arrays["residual_SCLIP"] = arrays["residual_ClearCLIP"]
    np.savez(tmp_path / "training_free_readouts.npz", **arrays)
    (tmp_path / "training_free_readouts.json").write_text((GOLDEN / "training_free_readouts.json").read_text())
    (report,) = parity([tmp_path / "training_free_readouts.json"], quiet=True)
    assert [check.key for check in report.checks if not check.passed] == ["residual_SCLIP"]
    assert "FAIL" in report.to_table().splitlines()[0]


def test_an_unknown_system_is_said_and_fails(tmp_path: Path) -> None:
    (tmp_path / "new.json").write_text(json.dumps({"system": "of next year"}))
    (report,) = parity([tmp_path / "new.json"], quiet=True)
    assert not report.passed
    assert "'of next year' is not a system that this version can check" in report.problem


def test_missing_arrays_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"model": "EVA02-CLIP-B-16", "sizes": []}))
    with pytest.raises(FileNotFoundError, match=r"needs its arrays in .*a\.npz"):
        parity([tmp_path / "a.json"], quiet=True)


@pytest.mark.parametrize(
    ("keys", "system"),
    [
        pytest.param({"model": "m", "sizes": []}, "dense model", id="model"),
        pytest.param({"model": "m", "param_grad_norm": {}}, "distillation step", id="step"),
        pytest.param({"grid_choices_rows_cols": []}, "preprocessing", id="preprocess"),
        pytest.param({"system": "SAN"}, "SAN", id="named"),
    ],
)
def test_a_manifest_tells_its_system(keys: dict[str, object], system: str) -> None:
    assert system_of(keys) == system


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        pytest.param("visual.pos_embed", (1, 5, 4), "table", id="table-whatever-its-rank"),
        pytest.param("visual.ln_post.weight", (4,), "gain", id="ln_post-is-no-table"),
        pytest.param("visual.attn.q_bias", (4,), "bias", id="bias"),
        pytest.param("visual.proj", (4, 2), "matrix", id="matrix"),
    ],
)
def test_kinds_of_parameters(name: str, shape: tuple[int, ...], kind: str) -> None:
    assert kind_of(name, shape) == kind


def test_fill_follows_the_rule() -> None:
    import zlib

    numbers = np.random.default_rng(zlib.crc32(b"a.b.weight")).standard_normal((3, 2, 5))
    expected = torch.from_numpy((numbers / np.sqrt(10)).astype(np.float32))
    torch.testing.assert_close(fill("a.b.weight", (3, 2, 5)), expected)


def test_compare_keeps_the_worst_element_against_its_allowance() -> None:
    check = compare("k", [1.0, 100.5], [1.1, 100.0], atol=0.05, rtol=0.01)
    assert check.difference == pytest.approx(0.1)
    assert not check.passed
    assert not compare("k", [float("nan")], [0.0], atol=1.0).passed
    assert not compare("k", [0.0, 0.0], [0.0], atol=1.0).passed
