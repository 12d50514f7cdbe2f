"""Score fusion, maps, readouts and geometry of manifests with other constants and sizes, against loops."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.support.siblings import Array, check, golden, passes

from clipself.backbones.transformer import require_blocks
from clipself.conformance.filling import fill_manifest, small_clip


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def softmax(x: Array) -> Array:
    raised = np.exp(x - x.max(-1, keepdims=True))
    shares: Array = raised / raised.sum(-1, keepdims=True)
    return shares


def unit(x: Array) -> Array:
    rows: Array = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
    return rows


def resized(maps: Array, size: tuple[int, int]) -> Array:
    return F.interpolate(torch.from_numpy(maps)[None].double(), size=size, mode="bilinear")[0].numpy()


# --- the maps of FC-CLIP and ODISE


def maps_of(scores: Array, masks: Array, config: dict[str, Any], index: int) -> dict[str, Array]:
    """Semantic, panoptic and instance results of one picture (Q, K + 1), (Q, H, W), mask by mask."""
    chances, soft, hard = softmax(scores), sigmoid(masks), masks > 0
    classes, (queries, height, width) = scores.shape[1] - 1, masks.shape
    semantic = np.einsum("qk,qhw->khw", chances[:, :-1], soft)
    best, labels = chances.max(1), chances.argmax(1)
    keep = [q for q in range(queries) if labels[q] != classes and best[q] > config["object_mask_threshold"]]
    ids, rows = np.zeros((height, width), dtype=np.int32), list[list[int]]()
    if keep:
        winner = np.stack([best[q] * soft[q] for q in keep]).argmax(0)
        stuff: dict[int, int] = {}
        for place, q in enumerate(keep):
            mine, own = (winner == place) & (soft[q] >= 0.5), int((soft[q] >= 0.5).sum())
            area = int((winner == place).sum())
            if not area or not own or not mine.any() or area / own < config["overlap_threshold"]:
                continue
            label, thing = int(labels[q]), int(labels[q]) in config["thing_ids"]
            if not thing and label in stuff:
                ids[mine] = stuff[label]
                continue
            rows.append([len(rows) + 1, int(thing), label])
            ids[mine] = len(rows)
            if not thing:
                stuff[label] = len(rows)
    pairs = sorted(((chances[q, k], q, k) for q in range(queries) for k in range(classes)), reverse=True)
    found = [(score * (soft[q] * hard[q]).sum() / (hard[q].sum() + 1e-6), q, k)
             for score, q, k in pairs[: config["topk"]] if k in config["thing_ids"]]  # fmt: skip
    return {
        f"mask_cls_{index}": scores, f"sem_seg_{index}": semantic, f"panoptic_{index}": ids,
        f"segments_{index}": np.array(rows, dtype=np.int64).reshape(-1, 3),
        f"inst_scores_{index}": np.array([one[0] for one in found]),
        f"inst_classes_{index}": np.array([one[2] for one in found], dtype=np.int64),
        f"inst_masks_{index}": np.packbits(hard[[one[1] for one in found]].reshape(len(found), height * width), axis=1),
    }  # fmt: skip


FUSIONS = [
    pytest.param({"alpha": 0.0, "beta": 1.0, "topk": 3}, id="either-source-alone"),
    pytest.param({"alpha": 0.9, "beta": 0.2, "thing_ids": [], "topk": 1000}, id="no-thing-and-more-than-there-are"),
    pytest.param({"object_mask_threshold": 0.999}, id="no-mask-is-kept"),
    pytest.param({"object_mask_threshold": 0.3, "overlap_threshold": 0.1, "size_divisibility": 48}, id="thresholds"),
    pytest.param({"ensemble_on_valid_mask": True, "image_sizes": [[31, 45], [40, 33], [17, 19]],
                  "original_sizes": [[31, 45], [80, 66], [9, 50]], "size_divisibility": 16}, id="three-odd-pictures"),
    pytest.param({"test_names": ["lake,pond"], "train_names": ["sky"], "thing_ids": [0]}, id="one-unseen-class"),
    pytest.param({"test_names": ["sky,cloud"], "train_names": ["cloud"], "clip_logit_scale_log": 2.0}, id="one-seen"),
]  # fmt: skip


@pytest.mark.parametrize("told", FUSIONS)
def test_fcclip_fusion(tmp_path: Path, told: dict[str, Any]) -> None:
    manifest, _ = golden("fcclip_fusion")
    config = manifest["config"] = {**manifest["config"], **told}
    names = [one.replace(", ", ",").split(",") for one in config["test_names"]]
    trained = {name for one in config["train_names"] for name in one.replace(", ", ",").split(",")}
    seen = np.array([bool(trained & {*own}) for own in names])
    generator, batch, queries, classes = np.random.default_rng(8), len(config["image_sizes"]), 6, len(names)
    flat, dim, channels = sum(map(len, names)), 10, 12
    step = config["size_divisibility"]
    padded = tuple(-(-max(one[axis] for one in config["image_sizes"]) // step) * step for axis in (0, 1))
    small = (padded[0] // 4, padded[1] // 4)
    raw = generator.standard_normal((flat * 14, dim)).astype(np.float32)
    arrays: dict[str, Array] = {
        "text_raw": raw,
        "clip_vis_dense": generator.standard_normal((batch, channels, 3, 2)).astype(np.float32),
        "clip_proj": (generator.standard_normal((channels, dim)) / 4).astype(np.float32),
        "pred_logits": (3 * generator.standard_normal((batch, queries, classes + 1))).astype(np.float32),
    }
    coarse = torch.from_numpy(generator.standard_normal((batch, queries, 4, 5)).astype(np.float32) * 4)
    masks = F.interpolate(coarse, size=small, mode="bilinear").numpy()
    masks[0, 0] = -5.0  # without a pixel
    arrays["pred_masks"] = masks
    rows = unit(unit(raw.astype(float)).reshape(flat, 14, dim).mean(1))
    arrays["text_classifier"] = rows
    ends = np.cumsum([0, *map(len, names)])
    for image in range(batch):
        tiny = resized(masks[image], (3, 2)) > 0
        scores = np.zeros((queries, classes + 1))
        inside = softmax(arrays["pred_logits"][image, :, :-1].astype(float))
        void = softmax(arrays["pred_logits"][image].astype(float))[:, -1:]
        for q in range(queries):
            pooled = (arrays["clip_vis_dense"][image] * tiny[q]).sum((1, 2)) / (tiny[q].sum() + 1e-8)
            cosine = rows @ unit(pooled.astype(float) @ arrays["clip_proj"].astype(float))
            best = np.array([cosine[a:b].max() for a, b in pairwise(ends)])
            outside = softmax(math.exp(config["clip_logit_scale_log"]) * best)
            share = np.where(seen, config["alpha"], config["beta"])
            share = share * (tiny[q].any() if config["ensemble_on_valid_mask"] else 1.0)
            fused = softmax((1 - share) * np.log(inside[q]) + share * np.log(outside))
            scores[q] = np.log(np.concatenate([fused * (1 - void[q]), void[q]]) + 1e-8)
        kept, original = config["image_sizes"][image], config["original_sizes"][image]
        whole = resized(resized(masks[image], padded)[:, : kept[0], : kept[1]], tuple(original))
        arrays |= maps_of(scores, whole, config, image)
    counts = [*map(len, names), 1]
    manifest |= {"overlapping_mask": seen.astype(int).tolist(), "num_templates": counts, "test_prompts_first": []}
    passes(tmp_path, manifest, arrays)


@pytest.mark.parametrize(
    "told",
    [
        {"alpha": 1.0, "beta": 0.0, "in_vocab_logit_scale": 40.0, "clip_logit_scale": 5.0},
        {"thing_ids": [4, 3, 2], "object_mask_threshold": 0.4, "overlap_threshold": 0.3, "topk": 45},
        {"test_labels": [["a"], ["b", "sky"], ["c"], ["d", "e", "f", "car"]], "topk": 1},
    ],
)
def test_odise_fusion(tmp_path: Path, told: dict[str, Any]) -> None:
    manifest, arrays = golden("odise_fusion")
    config = manifest["config"] = {**manifest["config"], **told}
    seen_names = {name for own in config["train_labels"] for name in own}
    seen = np.array([bool(seen_names & {*own}) for own in config["test_labels"]])
    ends = np.cumsum([0, *map(len, config["test_labels"])])

    def best(cosine: Array) -> Array:
        return np.stack([cosine[..., a:b].max(-1) for a, b in pairwise(ends)], axis=-1)

    double = {name: value.astype(float) for name, value in arrays.items() if value.dtype.kind == "f"}
    outside = config["clip_logit_scale"] * best(unit(double["maskclip_embed"]) @ unit(double["text"]).T)
    mine = unit(double["mask_embed"])
    inside = config["in_vocab_logit_scale"] * np.concatenate(
        [best(mine @ unit(double["category_text"]).T), mine @ unit(double["null_embed"]).T], axis=-1
    )
    share = np.where(seen, config["alpha"], config["beta"])
    fused = (1 - share) * np.log(softmax(inside[..., :-1])) + share * np.log(softmax(outside))
    void = softmax(inside)[..., -1:]
    scores = np.log(np.concatenate([softmax(fused) * (1 - void), void], axis=-1) + 1e-8)
    arrays |= {"maskclip_logits": outside, "in_vocab_logits": inside, "fused": fused}
    size, step = arrays["image"].shape[-2:], config["size_divisibility"]
    padded = tuple(-(-side // step) * step for side in size)
    for image in range(len(scores)):
        whole = resized(resized(arrays["pred_masks"][image], padded)[:, : size[0], : size[1]], size)
        found = maps_of(scores[image], whole, config, image)
        found[f"sem_seg_{image}"] = found[f"sem_seg_{image}"][:, ::2, ::2]
        arrays |= {name: value for name, value in found.items() if not name.startswith("inst_masks")}
    passes(tmp_path, manifest, arrays)


# --- F-ViT, Detic's classifier, RO-ViT


@pytest.mark.parametrize("base", [[0, 1, 2], [1], []])
def test_fvit_fusion_and_loss(tmp_path: Path, base: list[int]) -> None:
    generator, columns, temperature = np.random.default_rng(4), 4, 20.0
    texts, regions, clip = (generator.standard_normal((rows, 6)) for rows in (columns, 5, 5))
    seen = np.array([place in base or place == columns - 1 for place in range(columns)])
    detector, judged = unit(regions) @ unit(texts).T, unit(clip) @ unit(texts).T
    cases = {
        "one": {"vlm_temperature": 30.0, "alpha": 0.45, "beta": 0.9, "detect_temperature": temperature},
        "two": {"vlm_temperature": 3.0, "alpha": 0.6, "detect_temperature": temperature},
    }
    labels = np.array([*(base or [columns - 1]), columns - 1, columns - 1, columns - 1, columns - 1])[:5]
    weights = np.where(seen, 1.0, 0.0) * np.array([1.0, 0.5, 0.25, 0.35])
    arrays = {
        "embeddings": texts, "region": regions, "vlm": clip, "base": np.array(base, dtype=np.int64),
        "novel": np.array([place for place in range(columns - 1) if place not in base], dtype=np.int64),
        "det_logits": temperature * detector, "loss_labels": labels, "loss_class_weight": weights,
    }  # fmt: skip
    logits = arrays["det_logits"]
    loss, gradient = 0.0, np.zeros_like(logits)
    for row in range(5):
        chance = np.where(seen, np.exp(logits[row]), 0.0)
        chance /= chance.sum()
        loss -= weights[labels[row]] * math.log(chance[labels[row]]) / 5
        gradient[row] = weights[labels[row]] * (chance - np.eye(columns)[labels[row]]) / 5
    arrays |= {"loss": np.array(loss), "loss_grad": gradient}
    for name, case in cases.items():
        share = np.where(seen, case["alpha"], case.get("beta", case["alpha"]))
        p, q = softmax(temperature * detector), softmax(case["vlm_temperature"] * judged)
        arrays[f"{name}/scores"] = p ** (1 - share) * q**share
    passes(tmp_path, {**golden("fvit_score_fusion")[0], "cases": cases}, arrays)


def test_detics_classifier_at_other_constants(tmp_path: Path) -> None:
    manifest, arrays = golden("detic_zero_shot")
    names = {"cold": (2.5, "None", False), "warm": (80.0, "-1.5", True)}
    state = {
        name.rpartition("cls_score.")[2]: value.double().numpy() for name, value in fill_manifest(manifest).items()
    }
    given = {row["name"]: arrays[row["name"]] for row in manifest["inputs"]["order"]}
    text, x = arrays["text"].astype(float), arrays["x"].astype(float)
    hidden = x @ state["linear.weight"].T + state["linear.bias"]
    held: dict[str, Array] = dict(given)
    told = {}
    for name, (temperature, bias, normalise) in names.items():
        rows = np.concatenate([text, np.zeros((1, text.shape[1]))])
        rows = unit(rows) if normalise else rows
        mine = temperature * unit(hidden) if normalise else hidden
        offset = 0.0 if bias == "None" else float(state["cls_bias"].item())
        held |= {f"{name}_logits": mine @ rows.T + offset, f"{name}_zs_weight": rows.T}
        told[f"{name}_logits"] = (
            f"{{'use_bias': {bias}, 'norm_weight': {normalise}, 'norm_temperature': {temperature}}}"
        )
    passes(tmp_path, {**manifest, "outputs": told}, held)


@pytest.mark.parametrize("column", [0, 3, 8])
def test_rovits_fusion_with_the_background_elsewhere(tmp_path: Path, column: int) -> None:
    manifest, arrays = golden("rovit_scores_losses")
    config = manifest["config"] = {
        **manifest["config"], "background_column": column, "vlm_weight_base": 0.2, "vlm_weight_novel": 0.9,
        "objectness_power": 0.5, "det_temperature": 0.05, "vlm_temperature": 0.2, "background_weight": 0.3,
        "image_hw": [40, 30], "rpn_samples": 7, "iou_weight": 3.0, "shrink": 1.4, "shrink_image_hw": [60, 50],
        "roi_box_weights": [4.0, 8.0, 1.0, 2.0],
    }  # fmt: skip
    double = {name: value.astype(float) for name, value in arrays.items()}
    logits = {
        kind: unit(double[f"{kind}_embed"]) @ unit(double["text"]).swapaxes(1, 2) / config[f"{kind}_temperature"]
        for kind in ("det", "vlm")
    }
    out: dict[str, list[Array]] = {"fused": [], "fused_no_indicator": [], "scores": []}
    for image in range(2):
        p, q = softmax(logits["det"][image]), softmax(logits["vlm"][image])
        for name, base in (("fused", double["base"][image]), ("fused_no_indicator", np.zeros(9))):
            share = np.where(base > 0, 0.2, 0.9)
            mixed = p ** (1 - share) * q**share
            mixed[:, column] = p[:, column]
            mixed /= mixed.sum(1, keepdims=True)
            out[name].append(mixed)
        out["scores"].append(out["fused"][-1] * double["objectness"][image][:, None] ** 0.5)
    held = {"det_logits": logits["det"], "vlm_logits": logits["vlm"], **{k: np.stack(v) for k, v in out.items()}}
    anchors, sides = double["anchors"], double["lrtb"]
    yx = {name: anchors[..., place] for place, name in enumerate(("y0", "x0", "y1", "x1"))}
    high, wide = yx["y1"] - yx["y0"], yx["x1"] - yx["x0"]
    middle_y, middle_x = (yx["y0"] + yx["y1"]) / 2, (yx["x0"] + yx["x1"]) / 2
    decoded = np.stack(
        [middle_y - sides[..., 2] * high, middle_x - sides[..., 0] * wide, middle_y + sides[..., 3] * high,
         middle_x + sides[..., 1] * wide], axis=-1,
    )  # fmt: skip
    limits = np.array([40, 30, 40, 30])
    held |= {"decoded": decoded, "decoded_clipped": np.clip(decoded, 0, limits)}
    given = ("text", "det_embed", "vlm_embed", "base", "objectness", "anchors", "lrtb", "box_targets",
             "center_targets", "center_logits", "class_targets", "roi_box_pred", "roi_box_target", "proposals",
             "gt_boxes", "deltas", "centreness_boxes", "centreness_anchors", "centreness")  # fmt: skip
    held |= {name: arrays[name] for name in given}
    samples = len(sides) * 7
    apart = np.abs(sigmoid(double["center_logits"]) - double["center_targets"])
    held["center_loss"] = np.array(apart[double["center_targets"] >= 0].sum() / samples)
    total = 0.0
    for mine, theirs in zip(held["decoded_clipped"].reshape(-1, 4), double["box_targets"].reshape(-1, 4), strict=True):
        if not theirs.any():
            continue
        sizes = [max(0.0, min(mine[2 + i], theirs[2 + i]) - max(mine[i], theirs[i])) for i in (0, 1)]
        area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (mine, theirs)) - sizes[0] * sizes[1]
        total += 1 - sizes[0] * sizes[1] / area
    held["iou_loss"] = np.array(3.0 * total / samples)
    wanted, chance = arrays["class_targets"], softmax(logits["det"])
    each = [-math.log(chance[image, row, wanted[image, row]]) * (0.3 if wanted[image, row] == column else 1.0)
            for image in range(2) for row in range(6)]  # fmt: skip
    held["class_loss"] = np.array(np.mean(each))
    off = np.abs(double["roi_box_pred"] - double["roi_box_target"])[wanted != column]
    held["roi_box_loss"] = np.array(np.where(off < 1, off**2 / 2, off - 0.5).sum() / max(1, off.size))
    boxes = double["proposals"]
    y, x, h, w = ((boxes[..., 0] + boxes[..., 2]) / 2, (boxes[..., 1] + boxes[..., 3]) / 2,
                  (boxes[..., 2] - boxes[..., 0]) / 2 * 1.4, (boxes[..., 3] - boxes[..., 1]) / 2 * 1.4)  # fmt: skip
    held["shrunk"] = np.clip(np.stack([y - h, x - w, y + h, x + w], -1), 0, np.array([59, 49, 59, 49]))
    passes(tmp_path, manifest, held)


# --- readouts


@pytest.mark.parametrize("heads", [2, 3])
def test_readouts_with_other_heads(tmp_path: Path, heads: int) -> None:
    """The golden tower is read with other heads: its last block, every variant head by head."""
    manifest, arrays = golden("training_free_readouts")
    config = manifest["config"] = {**manifest["config"], "heads": heads, "proxy_beta": 0.8, "proxy_gamma": 5.0}
    clip = small_clip(config, fill_manifest(manifest), image_size=config["pretrain_res"])
    trunk: Any = require_blocks(clip, "this test")
    trunk.resize_positions_by = "scale_factor"
    width = config["width"] // heads
    with torch.no_grad():
        entered = trunk.forward_blocks(trunk.embed(torch.from_numpy(arrays["image"])), list(trunk.blocks)[:-1])
        block, before = trunk.blocks[-1], entered.tokens
        fused = F.linear(block.ln_1(before), block.attn.in_proj_weight, block.attn.in_proj_bias)[0]
        query, key, value = (part.reshape(-1, heads, width) for part in fused.chunk(3, dim=-1))

        def mixed(*pairs: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            out = []
            for head in range(heads):
                weights = sum((a[:, head] @ b[:, head].T / math.sqrt(width)).softmax(-1) for a, b in pairs)
                assert isinstance(weights, torch.Tensor)
                out.append(weights @ value[:, head])
            projected: torch.Tensor = block.attn.out_proj(torch.cat(out, dim=-1))[None]
            return projected

        attentions = {
            "vanilla": mixed((query, key)), "SCLIP": mixed((query, query), (key, key)),
            "ClearCLIP": mixed((query, query)), "MaskCLIP": block.attn.out_proj(value.flatten(1))[None],
        }  # fmt: skip
        stored: dict[str, Array] = {"image": arrays["image"], "vfm_feats": arrays["vfm_feats"]}
        for name, attention in attentions.items():
            whole = before + attention
            whole = whole + block.mlp(block.ln_2(whole))
            stored |= {
                f"residual_{name}": trunk.head(whole).numpy(),
                f"noresidual_{name}": trunk.head(attention).numpy(),
            }
        stored |= {"clip_plain": stored["residual_vanilla"], "kk_reduced": trunk.head(mixed((key, key))).numpy()}
        guide = torch.from_numpy(arrays["vfm_feats"])
        flat = F.normalize(guide[0].flatten(1).T, dim=-1)
        alike = flat @ flat.T
        alike = (alike - alike.mean() * 0.8) * 5.0
        weights = alike.masked_fill(alike < 0, float("-inf")).softmax(-1)
        rows, cols = entered.grid
        values = value[1:].flatten(1).T.reshape(1, -1, rows, cols)
        onto = F.interpolate(values, size=guide.shape[-2:], mode="bilinear")[0].flatten(1).T
        stored["proxyclip"] = trunk.head(block.attn.out_proj(weights @ onto)[None]).numpy()
    report = check(tmp_path, manifest, stored)
    failed = [one.key for one in report.checks if not one.passed]
    assert failed == [], report.to_table(most=3)
