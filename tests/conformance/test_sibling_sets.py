"""Sets of boxes, metrics and readings of manifests with other constants and counts, against loops."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from tests.support.siblings import Array, boxes, check, corners, golden, overlap, passes


def focal(logit: float, wanted: float, alpha: float, gamma: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return float(-alpha * (1 - p) ** gamma * math.log(p) if wanted else -(1 - alpha) * p**gamma * math.log(1 - p))


# --- OV-DETR


def pairs_of(logits: Array, mine: Array, theirs: Array, config: dict[str, Any]) -> tuple[Array, Array, Array]:
    """Costs (Q, N), and which query answers for which box."""
    cost = np.zeros((len(mine), len(theirs)))
    told = (config["focal_alpha"], config["focal_gamma"])
    for q, n in np.ndindex(*cost.shape):
        sides = focal(float(logits[q]), 1, *told) - focal(float(logits[q]), 0, *told)
        like = overlap(corners(mine[q].astype(float)), corners(theirs[n].astype(float)))
        far = np.abs(mine[q].astype(float) - theirs[n]).sum()
        cost[q, n] = config["cost"]["class"] * sides + config["cost"]["bbox"] * far - config["cost"]["giou"] * like
    rows, cols = linear_sum_assignment(cost)
    return cost, rows, cols


@pytest.mark.parametrize(
    ("labels", "aux", "proposals"),
    [
        pytest.param([[4, 9, 4], []], 1, True, id="a-picture-without-boxes"),
        pytest.param([[], []], 0, True, id="no-box-at-all"),
        pytest.param([[1, 2]], 2, False, id="none-of-those-asked-for-and-no-proposals"),
        pytest.param([[7, 7, 7, 4, 7]], 0, False, id="more-than-the-queries"),
    ],
)
def test_ov_detr_losses(tmp_path: Path, labels: list[list[int]], aux: int, proposals: bool) -> None:
    config: dict[str, Any] = {
        "queries": 3, "cost": {"class": 1.0, "bbox": 0.5, "giou": 4.0}, "focal_alpha": 0.6, "focal_gamma": 1.0,
        "weights": {"loss_ce": 0.7, "loss_bbox": 2.0, "loss_giou": 3.0, "loss_embed": 5.0}, "detections": 5,
    }  # fmt: skip
    generator, asked, queries, images = np.random.default_rng(12), [7, 4], 3, len(labels)
    arrays: dict[str, Array] = {
        "select_id": np.array(asked), "clip_query": generator.standard_normal((2, 6)).astype(np.float32),
        "original_sizes": np.array([[50 + 10 * image, 80] for image in range(images)]),
    }  # fmt: skip
    truth = [boxes(generator, len(own)) for own in labels]
    for image, own in enumerate(labels):
        arrays |= {f"labels_{image}": np.array(own, dtype=np.int64), f"boxes_{image}": truth[image]}
    count = max(1, sum(label in asked for own in labels for label in own))
    losses: dict[str, float] = {}
    sets = [*(f"aux{place}" for place in range(aux)), "final", *(["enc"] if proposals else [])]
    for name in sets:
        rows = 8 if name == "enc" else 2 * queries
        logits = generator.standard_normal((images, rows, 1)).astype(np.float32)
        predicted, embedded = boxes(generator, images, rows), generator.standard_normal((images, rows, 6))
        arrays |= {f"{name}_pred_logits": logits, f"{name}_pred_boxes": predicted}
        if name != "enc":
            arrays[f"{name}_pred_embed"] = embedded.astype(np.float32)
        sums = {"loss_ce": 0.0, "loss_bbox": 0.0, "loss_giou": 0.0, "loss_embed": 0.0}
        for image, own in enumerate(labels):
            found: list[tuple[int, int]] = []
            for copy, wanted in enumerate(asked if name != "enc" else [None]):
                here = slice(copy * queries, (copy + 1) * queries) if name != "enc" else slice(None)
                targets = [n for n, label in enumerate(own) if wanted in (None, label)]
                cost, mine, theirs = pairs_of(
                    logits[image, here, 0], predicted[image, here], truth[image][targets], config
                )
                if name == "final":
                    arrays[f"cost_image{image}_condition{copy}"] = cost
                start = copy * queries if name != "enc" else 0
                found += [(start + q, targets[n]) for q, n in zip(mine, theirs, strict=True)]
            if name in ("final", "enc"):
                key = f"match_{image}" if name == "final" else f"match_enc_{image}"
                arrays[key] = np.array(found, dtype=np.int64).reshape(-1, 2).T
            right = {q for q, _ in found}
            sums["loss_ce"] += sum(focal(float(logits[image, q, 0]), q in right, 0.6, 1.0) for q in range(rows))
            for q, n in found:
                sums["loss_bbox"] += float(np.abs(predicted[image, q].astype(float) - truth[image][n]).sum())
                sums["loss_giou"] += 1 - overlap(
                    corners(predicted[image, q].astype(float)), corners(truth[image][n].astype(float))
                )
                direction = embedded[image, q] / np.linalg.norm(embedded[image, q])
                sums["loss_embed"] += float(((direction - arrays["clip_query"][q // queries]) ** 2).sum())
        end = {"final": "", "enc": "_enc"}.get(name, f"_{name[3:]}")
        losses |= {f"{key}{end}": one / count for key, one in sums.items() if name != "enc" or key != "loss_embed"}
    total = sum(config["weights"]["_".join(name.split("_")[:2])] * one for name, one in losses.items())
    arrays |= {"loss_names": np.array([*losses]), "losses": np.array([*losses.values()]), "total": np.array(total)}
    for image in range(images):
        scores = 1 / (1 + np.exp(-arrays["final_pred_logits"][image, :, 0].astype(float)))
        best = np.argsort(-scores)[:5]
        height, width = arrays["original_sizes"][image]
        found_boxes = np.stack([corners(one.astype(float)) for one in arrays["final_pred_boxes"][image, best]])
        arrays |= {
            f"det_rows_{image}": best, f"det_scores_{image}": scores[best],
            f"det_labels_{image}": np.array(asked)[best // queries],
            f"det_boxes_{image}": found_boxes * np.array([width, height, width, height]),
        }  # fmt: skip
    manifest = golden("ov_detr_losses")[0]
    names = ("select_id", "clip_query", "original_sizes", "pred_", "labels_", "boxes_")
    given = [name for name in arrays if name.startswith(names) or "_pred_" in name]
    inputs = {"order": [{"name": name, "shape": list(arrays[name].shape)} for name in given]}
    passes(tmp_path, {**manifest, "config": config, "inputs": inputs, "outputs": {}}, arrays)
    config["weights"]["loss_ce"] = 0.8
    assert not check(tmp_path, {**manifest, "config": config, "inputs": inputs, "outputs": {}}, arrays).passed


# --- semantic scores


@pytest.mark.parametrize(("classes", "ignored"), [(2, 0), (1, 255), (300, 65535)])
def test_semantic_scores(tmp_path: Path, classes: int, ignored: int) -> None:
    """An ignored label that could be a class, one class alone, and more classes than a byte holds."""
    generator = np.random.default_rng(2)
    kind = np.uint8 if ignored < 256 else np.uint16
    truth = generator.integers(0, classes, (2, 9, 7)).astype(kind)
    found = generator.integers(0, classes, (2, 9, 7)).astype(kind)
    truth[:, ::3] = ignored
    counted = truth != ignored
    hits = [int(((truth == k) & (found == k) & counted).sum()) for k in range(classes)]
    there = [int(((truth == k) & counted).sum()) for k in range(classes)]
    said = [int(((found == k) & counted).sum()) for k in range(classes)]
    results: dict[str, float | None] = {}
    ious, accuracies = {}, {}
    for k in range(classes):
        seen = there[k] > 0
        ious[k] = 100 * hits[k] / (there[k] + said[k] - hits[k]) if seen else None
        accuracies[k] = 100 * hits[k] / there[k] if seen else None
        results |= {f"IoU-c{k}": ious[k], f"ACC-c{k}": accuracies[k]}
    share = [one / sum(there) for one in there]
    results |= {
        "mIoU": float(np.mean([one for one in ious.values() if one is not None])),
        "mACC": float(np.mean([one for one in accuracies.values() if one is not None])),
        "pACC": 100 * sum(hits) / sum(there),
        "fwIoU": float(sum(weight * (ious[k] or 0.0) for k, weight in enumerate(share))),
    }
    manifest = golden("seg_metrics")[0]
    del manifest["pq"]
    half = {"num_classes": classes, "ignore_label": ignored, "results": results}
    passes(tmp_path, {**manifest, "miou": half}, {"gt": truth, "pred": found})


# --- PromptOVD's reading


@pytest.mark.parametrize(("grid", "patch", "heads", "kept"), [((2, 5), 8, 1, 1), ((4, 3), 20, 3, 3)])
def test_promptovd_at_other_sizes(tmp_path: Path, grid: tuple[int, int], patch: int, heads: int, kept: int) -> None:
    generator, (rows, cols), regions, width = np.random.default_rng(3), grid, 3, 4
    corner = generator.random((regions, 2)) * np.array([cols, rows]) * patch * 0.7
    whole = np.concatenate([corner, corner + generator.random((regions, 2)) * patch * 2 + 1], axis=1)
    whole[0] = [patch, 0, 2 * patch, patch]  # touches its neighbours without sharing area
    inside = np.zeros((regions, rows * cols), dtype=np.uint8)
    for region, (x0, y0, x1, y1) in enumerate(whole):
        for row in range(rows):
            for col in range(cols):
                across = min(x1, (col + 1) * patch) - max(x0, col * patch)
                down = min(y1, (row + 1) * patch) - max(y0, row * patch)
                inside[region, row * cols + col] = across > 0 and down > 0
    tokens = rows * cols + 1
    arrays: dict[str, Array] = {name: generator.standard_normal((heads, tokens, width)) for name in "qkv"}
    arrays |= {f"roi_{name}": generator.standard_normal((heads, regions, width)) for name in "qkv"}

    def attend(query: Array, keys: Array, values: Array) -> Array:
        raised = np.exp(keys @ query / math.sqrt(len(query)))
        mixed: Array = (raised / raised.sum()) @ values
        return mixed

    ordinary, looked = np.zeros((heads, tokens, width)), np.zeros((heads, regions, width))
    for head in range(heads):
        for token in range(tokens):
            ordinary[head, token] = attend(arrays["q"][head, token], arrays["k"][head], arrays["v"][head])
        for region in range(regions):
            mine = 1 + np.flatnonzero(inside[region])
            keys, values = (
                np.concatenate([arrays[f"roi_{part}"][head, [region]], arrays[part][head, mine]]) for part in "kv"
            )
            looked[head, region] = attend(arrays["roi_q"][head, region], keys, values)
    prompts, queries = generator.standard_normal((2, 5)), generator.standard_normal((3, 5))
    objectness = generator.standard_normal(regions)
    both = np.concatenate([prompts, queries])
    arrays |= {
        "boxes": whole, "inside": inside, "ordinary": ordinary, "roi_out": looked, "objectness": objectness,
        "kept": np.argsort(-objectness)[:kept], "prompts": prompts, "queries": queries,
        "prompted": np.stack([attend(query, both, both) for query in queries]),
    }  # fmt: skip
    config = {"grid": list(grid), "patch": patch, "heads": heads, "kept": kept}
    passes(tmp_path, {**golden("promptovd_reading")[0], "config": config}, arrays)
