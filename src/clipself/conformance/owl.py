"""`owl_losses` and `owl_labels`: OWL-ViT's set loss with its gradients, and its way with labels."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipself.choices import pick
from clipself.conformance.check import Check, compare_told, unchecked
from clipself.conformance.dense_models import Arrays
from clipself.losses.assignment import match
from clipself.losses.owl import OwlConstants, OwlTargets, owl_costs, owl_shares
from clipself.losses.set_prediction import Focal, SetWeights


def run_losses(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Compares cost, pairs, terms and gradients of every case."""
    checks = []
    for place, (case, expected) in enumerate(zip(manifest["config"]["cases"], manifest["expected"], strict=True)):
        given = {name: arrays[f"{name}_{place}"] for name in ("pred_logits", "pred_boxes", "labels", "boxes")}
        ours = _loss_case(case, given)
        theirs = {**expected, **{name: arrays[f"{name}_{place}"] for name in ARRAYS if f"{name}_{place}" in arrays}}
        checks += [
            compare_told(manifest, f"{name}_{place}", ours[name], theirs[name], default=2e-5)
            if name in ours
            else unchecked(f"{name}_{place}")
            for name in theirs
        ]
    return checks


ARRAYS: Final = ("cost", "pairs", "grad_logits", "grad_boxes")


PUBLISHED: Final[Mapping[str, Any]] = {
    "coefficients": {"class": 1.0, "bbox": 1.0, "giou": 1.0}, "alpha": 0.3, "gamma": 2.0,
}  # fmt: skip
"""Constants where a manifest refers to the losses and repeats none."""


def constants_of(case: Mapping[str, Any]) -> OwlConstants:
    """The constants that a case states."""
    weights = case["coefficients"]
    return OwlConstants(
        weights=SetWeights(classes=weights["class"], box=weights["bbox"], overlap=weights["giou"]),
        focal=Focal(alpha=case["alpha"], gamma=case["gamma"]),
    )


def targets_of(labels_BMQ: NDArray[Any], boxes_BM4: NDArray[Any]) -> list[OwlTargets]:
    """The boxes of each picture that are none of padding; column 0, the padding query, is left out."""
    return [
        OwlTargets(
            boxes_M4=torch.from_numpy(boxes[labels[:, 0] == 0].astype(np.float32)),
            labels_MQ=torch.from_numpy(labels[labels[:, 0] == 0][:, 1:] > 0),
        )
        for labels, boxes in zip(labels_BMQ, boxes_BM4, strict=True)
    ]


def _loss_case(case: Mapping[str, Any], given: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    constants, targets = constants_of(case), targets_of(given["labels"], given["boxes"])
    logits = torch.from_numpy(given["pred_logits"]).requires_grad_()
    boxes = torch.from_numpy(given["pred_boxes"]).requires_grad_()
    totals = pick(NORMS, case["norm"], what="normaliser of the losses")(targets)
    shares = owl_shares([*logits[..., 1:]], [*boxes], targets, constants=constants, totals=totals)
    total = torch.stack(list(shares.values())).sum()
    torch.autograd.backward(total)
    costs = [
        owl_costs(one[:, 1:], box, target, constants=constants)
        for one, box, target in zip(logits, boxes, targets, strict=True)
    ]
    named = {f"loss_{theirs}": shares[ours].item() for theirs, ours in TERMS.items()}
    return {
        "total": total.item(), **named, "cost": _padded(costs, given["labels"]), "pairs": _pairs(costs, targets),
        "grad_logits": logits.grad, "grad_boxes": boxes.grad,
    }  # fmt: skip


def _whole_batch(targets: list[OwlTargets]) -> dict[str, Tensor | float]:
    counts = [one.counts() for one in targets]
    return {name: torch.as_tensor([float(one[name]) for one in counts]).sum() for name in counts[0]}


NORMS: Final[Mapping[str, Callable[[list[OwlTargets]], dict[str, Tensor | float] | None]]] = {
    "per_example": lambda targets: None,
    "global": _whole_batch,
}
"""What the sums are divided by: each picture's own, or the batch's."""

TERMS: Final = {"class": "classes", "bbox": "boxes", "giou": "overlap"}


def _padded(costs: list[Tensor], labels_BMQ: NDArray[Any]) -> NDArray[np.float32]:
    """The published matrix, in which instances of padding cost more than any box of the picture."""
    padded = []
    for cost_PM, labels_MQ in zip(costs, labels_BMQ, strict=True):
        highest = float(cost_PM.max()) if cost_PM.numel() else 1.0
        whole = np.full((len(cost_PM), len(labels_MQ)), 1.1 * highest + 10.0, dtype=np.float32)
        whole[:, labels_MQ[:, 0] == 0] = cost_PM.numpy()
        padded.append(whole)
    return np.stack(padded)


def _pairs(costs: list[Tensor], targets: list[OwlTargets]) -> NDArray[np.int64]:
    """(prediction, target) by target; -1 fills."""
    pairs = np.full((len(costs), max(map(len, (one.boxes_M4 for one in targets))), 2), -1, dtype=np.int64)
    for row, cost_PM in zip(pairs, costs, strict=True):
        found = match(cost_PM)
        order = found.targets_M.argsort()
        row[: len(order)] = torch.stack([found.queries_M[order], found.targets_M[order]], dim=1).numpy()
    return pairs
