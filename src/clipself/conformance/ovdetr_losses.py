"""`ov_detr_losses`, `ov_detr_train_step`: matching, losses, gradients and post-processing of OV-DETR."""

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from clipself.conformance.check import Check, compare, compare_told
from clipself.conformance.dense_models import Arrays
from clipself.conformance.filling import fill_manifest
from clipself.conformance.ovdetr import checks_of, network_of, predictions_of
from clipself.detection.detectors.deformable.network import BoxSet
from clipself.detection.detectors.deformable.postprocess import best_rows, select_boxes
from clipself.detection.detectors.ovdetr.loss import Asked, OvDetrLoss
from clipself.losses.set_prediction import Focal, SetWeights

TERMS: Final[Mapping[str, str]] = {
    "classes": "loss_ce", "box": "loss_bbox", "overlap": "loss_giou", "embedding": "loss_embed", "proposals": "enc",
}  # fmt: skip
"""Our words of a term -> the published ones."""


def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Losses of given predictions, their gradients, matches and what is found."""
    config = manifest["config"]
    held = {name: torch.from_numpy(value) for name, value in arrays.items() if value.dtype.kind in "fiub"}
    loss, asked = loss_of(config), asked_of(held, held["clip_query"])
    earlier = sum(name.startswith("aux") and name.endswith("_pred_boxes") for name in held)
    sets = [*(f"aux{index}" for index in range(earlier)), "final"]
    given = {name: _given(held, name) for name in [*sets, "enc"] if f"{name}_pred_boxes" in held}
    layers = [given[name] for name in sets]
    terms = loss.terms(layers, given.get("enc"), asked, num_boxes=count_asked(asked))
    ours = _said(terms, arrays, loss)
    ours |= _matches(loss, layers[-1], given.get("enc"), asked)
    for name, one in given.items():
        ours |= _gradients(name, one, ours["total"])
    ours |= _found(config, given["final"], held)
    ours |= _costs(loss, config["queries"], given["final"], asked)
    checks = checks_of(_detached(ours), manifest, arrays, default=1e-4)
    return [*checks, compare("num_boxes", count_asked(asked), config.get("num_boxes", count_asked(asked)), atol=0.0)]


def run_step(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """One step from the trunk's maps to the gradient of every parameter."""
    config = manifest["config"]
    held = {name: torch.from_numpy(value) for name, value in arrays.items() if value.dtype.kind in "fiub"}
    channels = config["backbone_channels"]
    network = network_of(config, fill_manifest(manifest), widths=channels).train()
    text_rows = held["text"][held["select_id"]]
    rows_RD = torch.where(held["use_text"][:, None], text_rows, held["image_query"])
    conditions_RC = network.condition(rows_RD, held["use_text"])
    encoded = network.encode([held[f"feat{index}"] for index in range(len(channels))], held["mask"])
    layers = network.decode(encoded, conditions_RC.expand(len(held["mask"]), -1, -1))
    loss, asked = loss_of(config), asked_of(held, rows_RD)
    terms = loss.terms(layers, encoded.proposals, asked, num_boxes=count_asked(asked))
    ours = {
        **predictions_of(layers), **_said(terms, arrays, loss), **_matches(loss, layers[-1], encoded.proposals, asked),
        "decoder_condition": conditions_RC, "clip_target": rows_RD,
    }  # fmt: skip
    ours["total"].backward()  # type: ignore[no-untyped-call]
    gradients = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}
    ours |= {f"grad:{name}": value for name, value in gradients.items()}
    ours["grad_norm"] = torch.stack([value.norm() for value in gradients.values()]).norm()
    norms = [
        compare_told(
            manifest, f"grad_norms/{name}", gradients[name].norm() if name in gradients else 0.0, norm, default=5e-4
        )
        for name, norm in manifest.get("grad_norms", {}).items()
    ]
    return [*checks_of(_detached(ours), manifest, arrays, default=5e-4), *norms]


def loss_of(config: Mapping[str, Any]) -> OvDetrLoss:
    """The loss that a manifest's `config` describes."""
    cost, weights = config["cost"], config["weights"]
    return OvDetrLoss(
        costs=SetWeights(classes=cost["class"], box=cost["bbox"], overlap=cost["giou"]),
        weights=SetWeights(classes=weights["loss_ce"], box=weights["loss_bbox"], overlap=weights["loss_giou"]),
        embedding=weights["loss_embed"],
        focal=Focal(alpha=config["focal_alpha"], gamma=config["focal_gamma"]),
    )


def asked_of(held: Mapping[str, Tensor], rows_RD: Tensor) -> list[Asked]:
    """Conditions and boxes of each picture of a manifest."""
    images = sum(name.startswith("labels_") for name in held)
    return [
        Asked(
            classes_R=held["select_id"], rows_RD=rows_RD, labels_N=held[f"labels_{index}"],
            boxes_N4=held[f"boxes_{index}"],
        )
        for index in range(images)
    ]  # fmt: skip


def count_asked(asked: list[Asked]) -> float:
    """Boxes of the classes that were asked for, at least 1."""
    return max(1.0, float(sum(int(torch.isin(one.labels_N, one.classes_R).sum()) for one in asked)))


def _given(held: Mapping[str, Tensor], name: str) -> BoxSet:
    """Predictions that the manifest stores, as leaves of the gradient."""
    embeddings = held.get(f"{name}_pred_embed")
    return BoxSet(
        logits_BN=held[f"{name}_pred_logits"][..., 0].clone().requires_grad_(),
        boxes_BN4=held[f"{name}_pred_boxes"].clone().requires_grad_(),
        embeddings_BND=None if embeddings is None else embeddings.clone().requires_grad_(),
    )


def _said(terms: Mapping[str, Tensor], arrays: Arrays, loss: OvDetrLoss) -> dict[str, Tensor]:
    """Terms in the manifest's order, and their weighted sum."""
    named = {"_".join(TERMS.get(part, part) for part in name.split("_")): value for name, value in terms.items()}
    ordered = [named[str(name)] for name in arrays["loss_names"]]
    return {"losses": torch.stack(ordered), "total": torch.stack(list(loss.weigh(terms).values())).sum()}


def _matches(loss: OvDetrLoss, last: BoxSet, proposals: BoxSet | None, asked: list[Asked]) -> dict[str, Tensor]:
    ours = {}
    for index, one in enumerate(asked):
        pair = loss.match_asked(last, index, one)
        ours[f"match_{index}"] = torch.stack([pair.queries_M, pair.targets_M])
        if proposals is not None:
            pair = loss.match_all(proposals, index, one.boxes_N4)
            ours[f"match_enc_{index}"] = torch.stack([pair.queries_M, pair.targets_M])
    return ours


def _gradients(name: str, given: BoxSet, total: Tensor) -> dict[str, Tensor]:
    leaves = {"logits": given.logits_BN, "boxes": given.boxes_BN4, "embed": given.embeddings_BND}
    kept = {kind: leaf for kind, leaf in leaves.items() if leaf is not None}
    grads = dict(zip(kept, torch.autograd.grad(total, list(kept.values()), retain_graph=True), strict=True))
    grads["logits"] = grads["logits"][..., None]
    return {f"grad_{name}_pred_{kind}": grad for kind, grad in grads.items()}


def _costs(loss: OvDetrLoss, queries: int, final: BoxSet, asked: list[Asked]) -> dict[str, Tensor]:
    """Costs of each picture's and each condition's queries for its boxes."""
    ours = {}
    for index, one in enumerate(asked):
        for copy, wanted in enumerate(one.classes_R):
            own, boxes_N4 = slice(copy * queries, (copy + 1) * queries), one.boxes_N4[one.labels_N == wanted]
            costs = loss.cost(final.logits_BN[index, own], final.boxes_BN4[index, own], boxes_N4)
            ours[f"cost_image{index}_condition{copy}"] = costs
    return ours


def _found(config: Mapping[str, Any], final: BoxSet, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    ours = {}
    for index, size in enumerate(held["original_sizes"].tolist()):
        logits_N, boxes_N4 = final.logits_BN[index].detach(), final.boxes_BN4[index].detach()
        found = select_boxes(logits_N, boxes_N4, queries=config["queries"], size=size, most=config["detections"])
        ours[f"det_scores_{index}"], ours[f"det_boxes_{index}"] = found.scores, found.boxes
        ours[f"det_labels_{index}"] = held["select_id"][found.labels]
        ours[f"det_rows_{index}"] = best_rows(logits_N, most=config["detections"])[1]
    return ours


def _detached(ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in ours.items()}
