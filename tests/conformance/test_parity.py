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
    "catseg_v1_aggregator",
    "catseg_v1_dense_vit",
    "catseg_v2_aggregator",
    "catseg_v2_aggregator_pool1_nopad",
    "catseg_v2_aggregator_topk",
    "catseg_v2_dense_vit",
    "cfm_recipe",
    "clipself_preprocess",
    "cora_detector_rn50",
    "cora_losses",
    "cora_losses_plus",
    "cora_plus_options",
    "cora_region_prompt",
    "cora_train_step",
    "cora_train_step_split",
    "detection_cases",
    "detic_c2_cascade",
    "detic_c4",
    "detic_losses",
    "detic_recipe",
    "detic_swin_small",
    "detic_zero_shot",
    "fcclip_fusion",
    "fcclip_fusion_validmask",
    "fcclip_heads_small",
    "fvit_score_fusion",
    "maskcls_losses",
    "odise_fusion",
    "odise_heads",
    "owl_labels",
    "owl_losses",
    "owl_model",
    "rovit_cpe",
    "rovit_focal_contrastive",
    "ov_detr_deform_attn",
    "rovit_heads",
    "rovit_scores_losses",
    "rovit_vit",
    "ov_detr_losses",
    "ov_detr_prompts",
    "ov_detr_published_names",
    "ov_detr_small",
    "ov_detr_train_step",
    "promptovd_reading",
    "san_small",
    "seg_metrics",
    "training_free_readouts",
)
LARGE = (
    "cora_published_names",
    "detic_published_names",
    "eva02_clip_b16",
    "openai_vit_b16",
    "clipself_step",
    "catseg_v2_model_b16",
)
SLOW = ("san_b16",)
"""Of published size, where a small one holds the same outputs."""


@pytest.mark.parametrize("name", [*SMALL, *LARGE, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_published_numbers(name: str) -> None:
    (report,) = parity([GOLDEN / f"{name}.json"], quiet=True)
    assert report.passed, report.to_table()
    assert len(report.checks) >= 3


@pytest.mark.parametrize(("name", "keys"), [("odise_diffusion", 28), ("odise_checkpoint_names", 6)])
def test_published_numbers_that_need_a_diffusion_library(name: str, keys: int) -> None:
    pytest.importorskip("diffusers", reason="the extra 'diffusion' is not installed")
    (report,) = parity([GOLDEN / f"{name}.json"], quiet=True)
    assert report.passed, report.to_table()
    assert len(report.checks) == keys


# Of what follows the small cases above hold every step and layer; these hold the numbers at the published widths.


@pytest.mark.slow
def test_published_widths_of_fcclip() -> None:
    (report,) = parity([require_shared("golden", "fcclip_heads_full.json")], quiet=True)
    assert report.passed, report.to_table()


@pytest.mark.slow
def test_published_size_of_ov_detr() -> None:
    (report,) = parity([require_shared("golden", "ov_detr_r50.json")], quiet=True)
    assert report.passed, report.to_table()


@pytest.mark.slow
def test_published_size_of_detics_lvis_detector() -> None:
    (report,) = parity([require_shared("golden", "detic_c2_r50.json")], quiet=True)
    assert report.passed, report.to_table()


def test_published_panoptic_quality() -> None:
    (report,) = parity([GOLDEN / "seg_metrics.json"], quiet=True)
    checks = [check for check in report.checks if check.key.startswith("pq/")]
    assert len(checks) == 32
    assert all(check.passed for check in checks), report.to_table()


def test_a_wrong_readout_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from clipself.conformance import readouts

    monkeypatch.setattr(readouts, "VARIANTS", {**readouts.VARIANTS, "residual_SCLIP": "qq"})
    (report,) = parity([GOLDEN / "training_free_readouts.json"], quiet=True)
    assert [check.key for check in report.checks if not check.passed] == ["residual_SCLIP"]
    assert "FAIL" in report.to_table().splitlines()[0]


def test_other_detection_cases_of_the_form_are_run_and_wrong_ones_noticed(tmp_path: Path) -> None:
    """Other strides, grids, column orders and names than the golden ones; each number by hand."""
    held = {
        "format": "detection_cases/1",
        "tolerance": {"fusion": 1e-6, "anchors": 1e-4},
        "anchors": [
            {
                "name": "stride_5", "stride": 5, "scale": 2, "ratios": [1.0], "grid_hw": [1, 2],
                "expected_anchors": [[-5, -5, 5, 5], [0, -5, 10, 5]],
            }
        ],
        "fusion": [
            {
                "name": "background_first", "mode": "fvit", "base_mask": [True], "alpha": 0.5, "beta": 0.0,
                "background_index": 0, "det_logits": [[0.0, 0.0]], "vlm_logits": [[0.0, 0.0]],
                "expected_scores": [[0.5, 0.5]], "expected_top1_foreground": [1],
            }
        ],
    }  # fmt: skip
    path = tmp_path / "unseen.json"
    path.write_text(json.dumps(held))
    (report,) = parity([path], quiet=True)
    assert report.passed, report.to_table()
    held["anchors"][0]["expected_anchors"][1][0] = 1  # type: ignore[index]
    path.write_text(json.dumps(held))
    assert not parity([path], quiet=True)[0].passed
    path.write_text(json.dumps({**held, "keypoints": []}))
    assert "section 'keypoints' of the manifest is unknown" in parity([path], quiet=True)[0].problem


def test_an_unknown_system_is_said_and_fails(tmp_path: Path) -> None:
    (tmp_path / "new.json").write_text(json.dumps({"system": "of next year"}))
    (report,) = parity([tmp_path / "new.json"], quiet=True)
    assert not report.passed
    assert "'of next year' is not a system that this version can check" in report.problem


def test_missing_arrays_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"model": "EVA02-CLIP-B-16", "sizes": []}))
    (report,) = parity([tmp_path / "a.json"], quiet=True)
    assert "a.npz; copy both files" in report.problem
    (tmp_path / "rows.json").write_text("[1]")
    with pytest.raises(ValueError, match="holds a list, and a manifest is a table"):
        parity([tmp_path / "rows.json"], quiet=True)


@pytest.mark.parametrize(
    ("keys", "system"),
    [
        pytest.param({"model": "m", "sizes": []}, "dense model", id="model"),
        pytest.param({"model": "m", "param_grad_norm": {}}, "distillation step", id="step"),
        pytest.param({"grid_choices_rows_cols": []}, "preprocessing", id="preprocess"),
        pytest.param({"format": "detection_cases/1"}, "detection cases", id="detection"),
        pytest.param(
            {"loss_formula": "", "cases": {"a": {"detect_temperature": 50.0}}}, "F-ViT score fusion", id="fusion"
        ),
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
