"""`detection_cases/1` and `fvit_score_fusion`: what a detector computes around its weights."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from clipself.conformance.check import Check, compare, compare_told
from clipself.conformance.dense_models import Arrays
from clipself.conformance.told import number_in
from clipself.detection.detectors.two_stage.fusion import cosine_logits, fuse_scores
from clipself.losses.masked_cross_entropy import masked_cross_entropy
from clipself.metrics.coco_ap import coco_ap
from clipself.metrics.lvis_ap import lvis_ap
from clipself.ops.anchors import grid_anchors
from clipself.ops.deltas import decode_boxes, encode_boxes
from clipself.ops.levels import pool_levels, roi_levels

Case = Mapping[str, Any]
TIE: Final = 1e-12
"""Scores in float64 that are nearer than this are equally good."""


def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Every case of every section; a section that is not known is an error, not a pass."""
    del arrays
    tolerances = manifest["tolerance"]
    checks: list[Check] = []
    for section, cases in manifest.items():
        if section in NOT_CASES:
            continue
        if section not in SECTIONS:
            raise ValueError(f"section {section!r} of the manifest is unknown, expected some of {sorted(SECTIONS)}")
        runner, kind = SECTIONS[section]
        for case in cases:
            atol = float(tolerances[kind]) if kind else 0.0
            checks += [
                compare(f"{section}/{case['name']}/{key}", ours, theirs, atol=atol)
                for key, ours, theirs in runner(case)
            ]
    return checks


Comparison = tuple[str, Any, Any]


def _tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _boxes(values: Any) -> Tensor:
    """Rows of four, also where there are none."""
    return _tensor(values).reshape(-1, 4)


def _fusion(case: Case) -> list[Comparison]:
    done: list[Comparison] = []
    columns = len(case["base_mask"]) + 1
    if "det_feat" in case:
        texts = _tensor(case["text"])
        regions, clip_regions = (_tensor(case[f"{side}_feat"]).reshape(-1, texts.shape[1]) for side in ("det", "vlm"))
        detector = cosine_logits(regions, texts, case["det_temperature"])
        clip = cosine_logits(clip_regions, texts, case["vlm_temperature"])
        done += [("det_logits", detector.numpy(), case["expected_det_logits"])]
        done += [("vlm_logits", clip.numpy(), case["expected_vlm_logits"])]
    else:
        detector, clip = (_tensor(case[f"{side}_logits"]).reshape(-1, columns) for side in ("det", "vlm"))
    background = case["background_index"]
    order = [column for column in range(detector.shape[1]) if column != background]
    base_K = torch.tensor([*case["base_mask"], True])
    detector_last = detector[:, [*order, background]]
    if case.get("mask_novel"):
        detector_last = detector_last.masked_fill(~base_K, float("-inf"))
    scores_last = fuse_scores(
        detector_last, clip[:, [*order, background]], rule=case["mode"], base_K=base_K, alpha=case["alpha"],
        beta=case["beta"],
    )  # fmt: skip
    scores = torch.empty_like(scores_last)
    scores[:, [*order, background]] = scores_last
    done.append(("scores", scores.numpy(), case["expected_scores"]))
    return [
        *done,
        ("top1_foreground", best_foreground(scores[:, order], order, case), case["expected_top1_foreground"]),
    ]


def best_foreground(scores_RK: Tensor, order: list[int], case: Case) -> list[int]:
    """The best column of each row; of several that are equally good, the one that the case names."""
    best = scores_RK.max(1).values
    return [
        told if told in order and scores[order.index(told)] >= top - TIE else order[int(scores.argmax())]
        for scores, top, told in zip(scores_RK, best, case["expected_top1_foreground"], strict=True)
    ]


def _masked_ce(case: Case) -> list[Comparison]:
    background = case["background_index"]
    columns = len(case["base_mask"]) + 1
    order = [column for column in range(columns) if column != background] + [background]
    place = {column: position for position, column in enumerate(order)}
    logits = _tensor(case["logits"]).reshape(-1, columns)[:, order].requires_grad_(True)
    labels = torch.tensor([place[label] for label in case["labels"]], dtype=torch.long)
    loss_R = masked_cross_entropy(
        logits, labels, seen_K=torch.tensor([*case["base_mask"], True]), background_weight=case["background_weight"]
    )
    loss = loss_R.sum() / len(loss_R)
    (gradient,) = torch.autograd.grad(loss, logits)
    weights = torch.where(labels == len(order) - 1, case["background_weight"], 1.0)
    back = torch.empty_like(gradient)
    back[:, order] = gradient
    return [
        ("per_roi", loss_R.detach().numpy(), case["expected_per_roi"]),
        ("loss", loss.item(), case["expected_loss_div_by_num_rois"]),
        ("loss_by_weights", (loss_R.sum() / weights.sum()).item(), case["expected_loss_div_by_weight_sum"]),
        ("gradient", back.numpy(), case["expected_grad_of_div_by_num_rois"]),
    ]


def _deltas(case: Case) -> list[Comparison]:
    stds = tuple(case["stds"])
    boxes = _boxes(case["proposals"])
    if case["op"] == "encode":
        deltas = encode_boxes(boxes, _boxes(case["gt"]), stds=stds)
        back = decode_boxes(boxes, _boxes(case["expected_deltas"]), stds=stds)
        return [
            ("deltas", deltas.numpy(), case["expected_deltas"]),
            ("decoded_again", back.numpy(), case["expected_decode_of_expected_deltas"]),
        ]
    deltas = _boxes(case["deltas"])
    decoded = decode_boxes(boxes, deltas, stds=stds)
    wanted = case.get("expected_boxes_clamp_both_sides", case.get("expected_boxes"))
    done: list[Comparison] = [("boxes", decoded.numpy(), wanted)]
    if "image_size_hw" in case:
        clipped = decode_boxes(boxes, deltas, stds=stds, size=tuple(case["image_size_hw"]))
        done.append(("boxes_clipped", clipped.numpy(), case["expected_boxes_clipped"]))
    return done


def _anchors(case: Case) -> list[Comparison]:
    anchors = grid_anchors(
        tuple(case["grid_hw"]), stride=case["stride"], scale=case["scale"], ratios=case["ratios"], dtype=torch.float64
    )
    return [("anchors", anchors.numpy(), case["expected_anchors"])]


def _levels(case: Case) -> list[Comparison]:
    """The number of levels and the finest scale are told in numbers or in the note; 4 and 56 are this form's own."""
    note = case.get("note", "")
    count = case.get("levels", 1 + number_in(note, r"\),\s*0,\s*(\d+)\)", default=3))
    finest = case.get("finest_scale", number_in(note, r"sqrt\(wh\)/([0-9.]+)", default=56.0))
    levels = roi_levels(_boxes(case["boxes"]), levels=int(count), finest=finest)
    return [("levels", levels.numpy(), case["expected_level"])]


def _pooling(case: Case) -> list[Comparison]:
    pooled = pool_levels(
        [_tensor(case["feature_map"])[None]], [_boxes(case["boxes"])], strides=[case["stride"]],
        output_size=case["output_size"],
    )  # fmt: skip
    return [("pooled", pooled.numpy(), case["expected"])]


def _numbers(values: Mapping[Any, float | None]) -> list[float]:
    """Values in the order of their keys; what does not exist is -1."""
    ordered = [values[key] for key in sorted(values, key=int)]
    return [-1.0 if value is None or value != value else float(value) for value in ordered]


def _one(value: float | None) -> float:
    return -1.0 if value is None or value != value else float(value)


def _coco(case: Case) -> list[Comparison]:
    groups = {"base": case["base_ids"], "novel": case["novel_ids"], "all": [*case["base_ids"], *case["novel_ids"]]}
    scores = coco_ap(case["gt"], case["predictions"], groups=groups, iou_type=case["iou_type"])
    expected, summary = case["expected"], scores.summary
    stats = [_one(summary[name]) for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")]
    return [
        ("ap50_per_class", _numbers(scores.ap50_per_class), _numbers(expected["ap50_per_class"])),
        ("ap_per_class", _numbers(scores.ap_per_class), _numbers(expected["ap_per_class"])),
        *((f"{group}_ap50", _one(summary[f"AP50 {group}"]), _one(expected[f"{group}_ap50"])) for group in groups),
        ("stats", stats, expected["stats_AP_AP50_AP75_APs_APm_APl"]),
    ]


def _lvis(case: Case) -> list[Comparison]:
    scores = lvis_ap(case["gt"], case["predictions"], iou_type=case["iou_type"], most=case["max_dets_per_image"])
    expected = case["expected"]
    done: list[Comparison] = [
        (name, _one(scores.summary[name]), _one(value)) for name, value in expected.items() if name != "ap_per_class"
    ]
    return [*done, ("ap_per_class", _numbers(scores.ap_per_class), _numbers(expected["ap_per_class"]))]


SECTIONS: Final[Mapping[str, tuple[Callable[[Case], list[Comparison]], str]]] = {
    "fusion": (_fusion, "fusion"),
    "masked_cross_entropy": (_masked_ce, "masked_ce"),
    "box_deltas": (_deltas, "deltas"),
    "anchors": (_anchors, "anchors"),
    "roi_levels": (_levels, ""),
    "roi_pooling": (_pooling, "roi_pooling"),
    "coco_ap": (_coco, "ap"),
    "lvis_ap": (_lvis, "ap"),
}
"""Section -> how its cases are run, and which of the manifest's tolerances holds; "" is exact."""

NOT_CASES: Final = ("format", "tolerance", "conventions", "verified", "note", "about")


def run_fvit(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """The released F-ViT box head's classification: logits, loss, gradient, fused scores."""
    texts, regions = torch.from_numpy(arrays["embeddings"]), torch.from_numpy(arrays["region"])
    clip_regions = torch.from_numpy(arrays["vlm"])
    columns = len(texts)
    base_K = torch.zeros(columns, dtype=torch.bool)
    base_K[torch.from_numpy(arrays["base"].astype(np.int64))] = True
    base_K[-1] = True
    both = int(base_K[torch.from_numpy(arrays["novel"].astype(np.int64))].sum()) if "novel" in arrays else 0
    first = next(iter(manifest["cases"].values()))
    logits = torch.from_numpy(arrays["det_logits"]).clone().requires_grad_(True)
    weights_K, labels = torch.from_numpy(arrays["loss_class_weight"]), torch.from_numpy(arrays["loss_labels"])
    loss_R = masked_cross_entropy(logits, labels, seen_K=weights_K > 0, background_weight=1.0) * weights_K[labels]
    loss = loss_R.sum() / (len(loss_R) + torch.finfo(torch.float32).eps)
    (gradient,) = torch.autograd.grad(loss, logits)
    ours: dict[str, Any] = {
        "det_logits": cosine_logits(regions, texts, first["detect_temperature"]).numpy(),
        "loss": loss.item(),
        "loss_grad": gradient.numpy(),
    }
    for name, case in manifest["cases"].items():
        alpha = case["alpha"]
        scores = fuse_scores(
            cosine_logits(regions, texts, case["detect_temperature"]),
            cosine_logits(clip_regions, texts, case["vlm_temperature"]),
            rule="fvit" if "beta" in case else "single",
            base_K=base_K, alpha=alpha, beta=case.get("beta", alpha),
        )  # fmt: skip
        ours[f"{name}/scores"] = scores.numpy()
    return [
        compare("classes that are base and novel", both, 0, atol=0.0),
        *(
            compare_told(manifest, key, value, arrays[key], default=2e-6)
            for key, value in ours.items()
            if key in arrays
        ),
    ]
