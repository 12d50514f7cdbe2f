"""Every constant of a manifest is taken from it, so that manifests other than the golden ones are checked too."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tests.support.segmentation import tiny_catseg
from tests.support.tiny import tiny_openai_clip
from torch import Tensor

from clipself.backbones.transformer import require_blocks
from clipself.conformance import catseg
from clipself.conformance.catseg import aggregator_settings, align_tied
from clipself.conformance.check import compare_told, tolerance_at, tolerance_of
from clipself.conformance.dense_models import draw_inputs
from clipself.conformance.distill_step import draw_batch
from clipself.conformance.filling import fill_listed, fill_manifest, small_clip, told_scales
from clipself.conformance.report import ParityReport
from clipself.conformance.run import parity
from clipself.conformance.told import number_in, thin, words_of
from clipself.layers.linear_attention import Padding
from clipself.segmentation.catseg.aggregator import CostAggregator
from clipself.segmentation.catseg.model import CatSeg

GOLDEN = Path(__file__).parents[1] / "golden"


def changed(folder: Path, name: str, *, config: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> ParityReport:
    """The report of a golden manifest with other constants and other numbers."""
    manifest = json.loads((GOLDEN / f"{name}.json").read_text())
    manifest["config"] |= config
    (folder / f"{name}.json").write_text(json.dumps(manifest))
    with np.load(GOLDEN / f"{name}.npz") as held:
        np.savez(folder / f"{name}.npz", **{**dict(held), **arrays})
    (report,) = parity([folder / f"{name}.json"], quiet=True)
    return report


def last_block_in_loops(std: float) -> dict[str, NDArray[Any]]:
    """NACLIP's readout and its ablation on the golden tower, patch by patch, at any width of the window."""
    manifest = json.loads((GOLDEN / "training_free_readouts.json").read_text())
    config = manifest["config"]
    clip = small_clip(config, fill_manifest(manifest), image_size=config["pretrain_res"])
    trunk: Any = require_blocks(clip, "this test")
    trunk.resize_positions_by = "scale_factor"
    with np.load(GOLDEN / "training_free_readouts.npz") as held, torch.no_grad():
        tokens = trunk.embed(torch.from_numpy(held["image"]))
        tokens = trunk.forward_blocks(tokens, list(trunk.blocks)[:-1])
        block, (rows, cols) = trunk.blocks[-1], tokens.grid
        fused = F.linear(block.ln_1(tokens.tokens), block.attn.in_proj_weight, block.attn.in_proj_bias)[0].double()
    count, width = rows * cols + 1, config["width"] // config["heads"]
    query, key, value = (part.reshape(count, config["heads"], width) for part in fused.chunk(3, dim=-1))
    near = torch.zeros(count, count, dtype=torch.float64)
    for one in range(1, count):
        for other in range(1, count):
            dy, dx = (one - 1) // cols - (other - 1) // cols, (one - 1) % cols - (other - 1) % cols
            near[one, other] = math.exp(-(dy * dy + dx * dx) / (2 * std * std))
    strength = float(torch.stack([query[:, h].norm(dim=-1).mean() * key[:, h].norm(dim=-1).mean()
                                  for h in range(config["heads"])]).mean())  # fmt: skip
    mixed = {"naclip": [], "neighbour_only_reduced": []}  # type: dict[str, list[torch.Tensor]]
    for head in range(config["heads"]):
        logits = key[:, head] @ key[:, head].T / math.sqrt(width) + near
        mixed["naclip"].append(logits.softmax(-1) @ value[:, head])
        mixed["neighbour_only_reduced"].append((strength / math.sqrt(width) * near).softmax(-1) @ value[:, head])
    with torch.no_grad():
        return {
            name: trunk.head(block.attn.out_proj(torch.cat(heads, dim=-1).float()))[None].numpy()
            for name, heads in mixed.items()
        }


@pytest.mark.parametrize("std", [5.0, 2.5])
def test_naclip_at_any_width_of_its_window(tmp_path: Path, std: float) -> None:
    arrays = last_block_in_loops(std)
    report = changed(tmp_path, "training_free_readouts", config={"gaussian_std": std}, arrays=arrays)
    assert report.passed, report.to_table()
    report = changed(tmp_path, "training_free_readouts", config={"gaussian_std": std + 1}, arrays=arrays)
    failed = {check.key for check in report.checks if not check.passed}
    assert failed == {"naclip", "neighbour_only_reduced"}


def test_the_grid_of_the_positions_is_told_by_the_note(tmp_path: Path) -> None:
    manifest = json.loads((GOLDEN / "training_free_readouts.json").read_text())
    manifest["note"] = manifest["note"].replace("(grid + 0.1)", "(grid + 0.5)")
    (tmp_path / "training_free_readouts.json").write_text(json.dumps(manifest))
    (tmp_path / "training_free_readouts.npz").write_bytes((GOLDEN / "training_free_readouts.npz").read_bytes())
    (report,) = parity([tmp_path / "training_free_readouts.json"], quiet=True)
    assert not any(check.passed for check in report.checks)  # every number was made at the other offset


def test_a_constant_that_the_manifest_lacks_is_named(tmp_path: Path) -> None:
    manifest = json.loads((GOLDEN / "training_free_readouts.json").read_text())
    del manifest["config"]["proxy_beta"]
    (tmp_path / "training_free_readouts.json").write_text(json.dumps(manifest))
    (tmp_path / "training_free_readouts.npz").write_bytes((GOLDEN / "training_free_readouts.npz").read_bytes())
    (report,) = parity([tmp_path / "training_free_readouts.json"], quiet=True)
    assert not report.passed
    assert "lacks 'proxy_beta', which 'proxyclip' depends on" in report.problem


@pytest.mark.parametrize("name", ["fcclip_fusion", "odise_fusion"])
def test_instances_are_a_set(tmp_path: Path, name: str) -> None:
    with np.load(GOLDEN / f"{name}.npz") as held:
        rows = {key: held[key] for key in ("inst_scores_0", "inst_classes_0", "inst_masks_0") if key in held}
    turned = {key: values[::-1] for key, values in rows.items()}
    report = changed(tmp_path, name, config={}, arrays=turned)
    assert report.passed, report.to_table()
    wrong = {**turned, "inst_classes_0": turned["inst_classes_0"].copy()}
    wrong["inst_classes_0"][0] += 1
    report = changed(tmp_path, name, config={}, arrays=wrong)
    assert [check.key for check in report.checks if not check.passed] == ["inst_0 that have no partner"]


def test_of_equal_scores_each_may_be_the_best(tmp_path: Path) -> None:
    """Two classes with the same logits: which one is told is open; a worse one is not."""
    case = {
        "name": "tied", "mode": "single", "base_mask": [True, True, True], "alpha": 0.5, "beta": 0.5,
        "background_index": 3, "det_logits": [[1.0, 1.0, 0.0, 0.0]], "vlm_logits": [[1.0, 1.0, 0.0, 0.0]],
    }  # fmt: skip
    high = math.e / (2 * math.e + 2)
    case["expected_scores"] = [[high, high, high / math.e, high / math.e]]
    for told, passes in ((0, True), (1, True), (2, False)):
        path = tmp_path / f"{told}.json"
        held = {"format": "detection_cases/1", "tolerance": {"fusion": 1e-6}}
        path.write_text(json.dumps({**held, "fusion": [{**case, "expected_top1_foreground": [told]}]}))
        assert parity([path], quiet=True)[0].passed == passes


def test_levels_are_told_by_the_note(tmp_path: Path) -> None:
    case = {
        "name": "three", "boxes": [[0, 0, 50, 50], [0, 0, 90, 90], [0, 0, 900, 900]], "expected_level": [0, 1, 2],
        "note": "level = clamp(floor(log2(sqrt(wh)/40)),0,2)",
    }  # fmt: skip
    path = tmp_path / "levels.json"
    path.write_text(json.dumps({"format": "detection_cases/1", "tolerance": {}, "roi_levels": [case]}))
    assert parity([path], quiet=True)[0].passed


def test_classes_that_are_equally_near_at_the_cap_may_change_places() -> None:
    cosine = torch.tensor([0.9, 0.5, 0.5, 0.1]).reshape(1, 1, 4, 1, 1)
    ours = torch.tensor([3.0, 2.0, -100.0, -100.0]).reshape(1, 4, 1, 1)
    theirs = torch.tensor([3.0, -100.0, 2.0, -100.0]).reshape(1, 4, 1, 1)
    assert torch.equal(align_tied(ours, theirs, cosine, cap=2), theirs)
    apart = cosine + torch.tensor([0.0, 0.01, 0.0, 0.0]).reshape(1, 1, 4, 1, 1)
    assert torch.equal(align_tied(ours, theirs, apart, cap=2), ours)


def test_weights_are_filled_at_the_scales_that_are_told() -> None:
    rows = [{"name": "a.bias", "shape": [4]}, {"name": "a.weight", "shape": [4]}]
    plain, other = fill_listed(rows), fill_listed(rows, {"bias": "0.04*n (other 1-D tensors)", "gain": "1 + 0.1*n"})
    torch.testing.assert_close(other["a.bias"], 2 * plain["a.bias"])
    torch.testing.assert_close(other["a.weight"] - 1, 2 * (plain["a.weight"] - 1))
    told = told_scales({"rule_order": ["table: last part is pos_embed -> 0.03*n (whatever its rank)"]})
    assert (told["table"], told["gain"]) == (0.03, 0.05)


def test_inputs_are_drawn_at_the_constants_that_are_told() -> None:
    words = ["image", "where hi-lo < 0.5: lo = min(lo, 0.3), hi = lo + 0.6", "masks = random((1,4,2,2)) > 0.9"]
    manifest = {"input_seed": 3, "input_rule": {"order": words}}
    stored = {"boxes": np.zeros((1, 7, 4)), "masks": np.zeros((1, 4, 2, 2))}
    images, boxes, masks = draw_inputs(manifest, {"H": 4, "W": 4, "grid": [2, 2]}, stored)
    generator = np.random.default_rng(3)
    assert (images == generator.standard_normal((1, 3, 4, 4)).astype(np.float32)).all()
    for box, drawn in zip(boxes[0], generator.random((1, 7, 2, 2))[0], strict=True):
        for axis in (0, 1):
            low, high = sorted(drawn[:, axis].tolist())
            if high - low < 0.5:
                low = min(low, 0.3)
                high = low + 0.6
            assert box[[axis, axis + 2]].tolist() == pytest.approx([low, high])
    assert (masks == (generator.random((1, 4, 2, 2)) > 0.9)).all()


def test_what_is_stored_of_an_array_is_told_by_words() -> None:
    row = torch.arange(9)[None]
    assert thin(row, (1, 3), "stored [:, ::4]").tolist() == [[0, 4, 8]]  # lengths alone would say every third
    assert thin(row, (1, 3)).tolist() == [[0, 3, 6]]
    assert thin(row, (1, 5), "stored every 2 channels").tolist() == [[0, 2, 4, 6, 8]]
    assert thin(row.expand(2, 9), (2, 3), "(stored [..., ::4])")[0].tolist() == [0, 4, 8]
    assert thin(row.T[None], (1, 3, 1), "stride-16 map, channels ::4")[0, :, 0].tolist() == [0, 4, 8]
    assert thin(torch.zeros(1, 9, 9), (1, 3, 3), "::4 in both directions, last layer").shape == (1, 3, 3)
    assert thin(row, (1, 4), "stored [:, :4]").tolist() == [[0, 1, 2, 3]]
    assert thin(row, (1, 2), "[:, 3:8:4]").tolist() == [[3, 7]]
    assert thin(torch.zeros(2, 28, 28), (2, 10, 10), "of the first ten, every 3rd row and column").shape == (2, 10, 10)
    assert torch.equal(thin(row, (1, 9), "every 4 channels"), row)  # stored whole
    outputs = {"layer_spatial": "after it, [:, ::8]", "layer_class": "same slicing", "sem_seg": "image 0, [::2]"}
    manifest = {"outputs": outputs}
    assert words_of(manifest, "layer3_class") == "after it, [:, ::8]"
    assert words_of(manifest, "sem_seg_1") == "image 0, [::2]"
    assert words_of(manifest, "other") == ""
    with pytest.raises(ValueError, match="finds no number"):
        number_in("nothing", r"(\d+)")


def test_tolerances_in_words() -> None:
    assert tolerance_of({"tolerances": {"fp32_cpu": "atol 1e-5 (rtol 0) on dense"}}, default=1.0) == (1e-5, 0.0)
    assert tolerance_of({"tolerances": "atol 2e-6, rtol 1e-3"}, default=1.0) == (2e-6, 1e-3)
    assert tolerance_of({}, default=0.5) == (0.5, 0.0)


def test_tolerances_of_single_quantities() -> None:
    """The name itself, then patterns in their order, then what numbered arrays have in common."""
    manifest = {
        "tolerance": {"atol": 1e-4, "rtol": 1e-3, "logits": {"atol": 1e-2}, "panoptic": "exact but for ties"},
        "tolerances": {
            "*_grad": {"atol": 1e-7, "rtol": 0.0}, "big_grad": {"atol": 1.0}, "det_boxes": {"atol": 5e-3},
            "masks": 1e-5, "norms": "atol 2e-6 + rtol 3e-5", "words": "as it comes", "size": "1e-6",
        },
    }  # fmt: skip
    wanted = {
        "other": (1e-4, 1e-3), "logits": (1e-2, 0.0), "panoptic_1": (0.0, 0.0), "a_grad": (1e-7, 0.0),
        "big_grad": (1.0, 0.0), "det0_boxes": (5e-3, 0.0), "masks_3": (1e-5, 0.0), "norms/conv": (2e-6, 3e-5),
        "words": (1e-4, 1e-3), "size": (1e-6, 0.0),
    }  # fmt: skip
    assert {key: tolerance_at(manifest, key) for key in wanted} == wanted
    default = {"tolerances": {"default": {"atol": 5e-5, "rtol": 1e-4}, "discrete": "exact"}}
    assert tolerance_at(default, "memory") == (5e-5, 1e-4)
    assert not compare_told(manifest, "a", [1], np.array([2]), default=10.0).passed  # whole numbers are equal


@pytest.mark.parametrize(
    ("name", "key", "row"),
    [
        ("san_small", "attn_bias", {"tolerance": {"attn_bias": {"atol": 0.0, "rtol": 0.0}}}),
        ("maskcls_losses", "loss_ce", {"tolerances": {"loss_ce": "exact"}}),
        ("cora_losses", "grad_boxes_0", {"tolerances": {"gradients": {"atol": 0.0, "rtol": 0.0}}}),
        ("ov_detr_deform_attn", "out_boxes", {"tolerance": {"out_boxes": 0.0}}),
        ("fcclip_fusion", "sem_seg_0", {"tolerance": {"sem_seg": {"atol": 0.0, "rtol": 0.0}}}),
        ("training_free_readouts", "sclip", {"tolerances": {"scl*": {"atol": 0.0, "rtol": 0.0}}}),
    ],
)
def test_a_quantity_has_the_tolerance_that_is_told_of_it(
    tmp_path: Path, name: str, key: str, row: dict[str, dict[str, Any]]
) -> None:
    """Nothing but the quantity is held to the number that is told of it alone."""
    manifest = json.loads((GOLDEN / f"{name}.json").read_text())
    for table, rows in row.items():
        manifest[table] = {**manifest.get(table, {}), **rows}
    (tmp_path / f"{name}.json").write_text(json.dumps(manifest))
    (tmp_path / f"{name}.npz").write_bytes((GOLDEN / f"{name}.npz").read_bytes())
    (report,) = parity([tmp_path / f"{name}.json"], quiet=True)
    found = {check.key: check.tolerance for check in report.checks}
    assert found[key] == 0.0
    assert any(tolerance > 0.0 for tolerance in found.values())


def test_a_step_may_have_several_images() -> None:
    words = [
        f"{what} = standard_normal(({count},3,4,4)) cast to float32" for what, count in (("image", 2), ("crops", 4))
    ]
    batch = {"rng": "one default_rng(5)", "order": words}
    images, crops, boxes = draw_batch({"batch": {**batch, "boxes": "grid of 1 rows x 2 columns"}}, {})
    assert (len(images), len(crops), boxes.shape) == (2, 4, (4, 4))
    assert torch.equal(boxes[:2], boxes[2:])
    valid = np.ones((2, 2, 5), dtype=np.float32)
    valid[1, 0, 4] = 0.0
    _, _, stored = draw_batch({"batch": batch}, {"boxes": valid})
    assert stored.shape == (3, 4)


def naive_class_attention(tokens: torch.Tensor, texts: torch.Tensor, layer: Any) -> torch.Tensor:
    """Softmax attention of one sequence, head by head."""
    guided = torch.cat([tokens, texts], dim=-1)
    query, key, value = layer.q(guided), layer.k(guided), layer.v(tokens)
    width = query.shape[-1] // layer.heads
    parts = []
    for head in range(layer.heads):
        own = slice(head * width, (head + 1) * width)
        weights = (query[:, own] @ key[:, own].T / math.sqrt(width)).softmax(-1)
        parts.append(weights @ value[:, own])
    return torch.cat(parts, dim=-1)


def test_aggregators_of_the_other_attention_and_of_another_width_of_guidance(tmp_path: Path) -> None:
    """CAT-Seg's `attention_type` and `appearance_guidance_proj_dim` are told; neither is that of the texts."""
    settings = aggregator_settings({
        **json.loads((GOLDEN / "catseg_v2_aggregator_topk.json").read_text())["config"],
        "attention_type": "full", "appearance_guidance_proj_dim": 24, "text_guidance_proj_dim": 40,
    })  # fmt: skip
    torch.manual_seed(0)
    aggregator = CostAggregator(settings)
    state = aggregator.state_dict()
    assert state["guidance_projection.0.weight"].shape[0] == 24
    assert state["text_guidance_projection.0.weight"].shape[0] == 40
    assert state["layers.0.swin_block.block_1.attn.q.weight"].shape == (128, 128 + 24)
    layer: Any = aggregator.layers[0]
    attention, tokens, texts = layer.attention.attention, torch.randn(5, 128), torch.randn(5, 40)
    with torch.no_grad():
        torch.testing.assert_close(
            attention(tokens[None], texts[None])[0], naive_class_attention(tokens, texts, attention)
        )
        token, guidance = torch.randn(1, 1, 128), torch.randn(1, 1, 40)
        padded = attention(tokens[None], texts[None], padding=Padding(token_11C=token, guidance_11G=guidance, count=3))
        whole = torch.cat([tokens, *[token[0]] * 3]), torch.cat([texts, *[guidance[0]] * 3])
        torch.testing.assert_close(padded[0], naive_class_attention(*whole, attention)[:5])
        maps = [torch.randn(1, 48, 12, 12), torch.randn(1, 40, 24, 24), torch.randn(1, 24, 48, 48)]
        logits = aggregator(torch.randn(1, 64, 12, 12), torch.randn(1, 3, 1, 64), maps, pooling=2)
    assert logits.shape == (1, 3, 48, 48)


def test_the_square_that_catsegs_clip_sees_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (GOLDEN / "catseg_v2_model_b16.json").read_text()
    manifest = json.loads(text.replace("384x384", "96x96"))
    with np.load(GOLDEN / "catseg_v2_model_b16.npz") as held:
        arrays = dict(held)
    seen: list[tuple[int, ...]] = []

    def look(model: CatSeg, pixels: Tensor, *_: object, **__: object) -> list[Tensor]:
        seen.append(tuple(model.prepare(pixels[None]).shape[-2:]))
        return [torch.zeros(5, 150, 198)]

    monkeypatch.setattr(catseg, "fill_manifest", lambda _: {})
    monkeypatch.setattr(catseg, "read_catseg", lambda *_, **__: tiny_catseg(tiny_openai_clip(layers=6)))
    monkeypatch.setattr(catseg, "score_picture", look)
    monkeypatch.setattr(catseg, "_check_training", lambda *_: [])
    catseg.run_model(manifest, arrays)
    assert seen == [(96, 96), (96, 96)]


@pytest.mark.parametrize("name", ["training_free_readouts", "catseg_v1_dense_vit"])
def test_pixels_beyond_the_last_patch_are_not_seen(tmp_path: Path, name: str) -> None:
    with np.load(GOLDEN / f"{name}.npz") as held:
        larger = np.pad(held["image"], ((0, 0), (0, 0), (0, 5), (0, 3)))
    report = changed(tmp_path, name, config={}, arrays={"image": larger})
    assert {check.key for check in report.checks if not check.passed} <= {
        "image (shape (2, 3, 48, 48) for (2, 3, 53, 51))"
    }
