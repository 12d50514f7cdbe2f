"""`detic_zero_shot` and `detic_losses`: the classifier, and all that Detic's box heads learn from."""

import re
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from clipself.conformance.check import Check, compare_told, unchecked
from clipself.conformance.dense_models import Arrays
from clipself.conformance.filling import fill_manifest
from clipself.detection.detectors.detic.classifier import ZeroShotClassifier
from clipself.losses.captions import caption_loss
from clipself.losses.federated import federated_odds
from clipself.losses.image_labels import IMAGE_LABEL_RULES, WeakRegions, column_of_class, image_label_loss
from clipself.losses.region_classes import sigmoid_class_loss, softmax_class_loss
from clipself.ops.deltas import decode_boxes, encode_boxes

PREFIX: Final = "roi_heads.box_predictor."
LEAST_COUNT: Final = 1e-4
"""A class whose weight is not above this has no images."""


def compare_all(ours: Mapping[str, Any], arrays: Arrays, manifest: Mapping[str, Any]) -> list[Check]:
    """Every array that is an output, each with its own; one that we have not made fails."""
    given = {row["name"] for row in manifest["inputs"]["order"]}
    return [
        compare_told(manifest, key, ours[key], theirs, default=1e-4) if key in ours else unchecked(key)
        for key, theirs in arrays.items()
        if key not in given
    ]


# --- the classifier


def run_classifier(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Each way of building it: logits, gradients, the stored buffer, rows given at the call."""
    held = {row["name"]: torch.from_numpy(arrays[row["name"]]) for row in manifest["inputs"]["order"]}
    state = fill_manifest(manifest, prefix=f"{PREFIX}cls_score.")
    ours: dict[str, Any] = {}
    for name, words in manifest["outputs"].items():
        if name.endswith("_logits") and not name.endswith("_other_logits"):
            way = name.removesuffix("_logits")
            model = _classifier(manifest["config"], str(words), state, held["text"])
            ours |= {f"{way}_{key}": value for key, value in _classify(model, held).items()}
    return compare_all(ours, arrays, manifest)


def _classifier(config: Mapping[str, Any], words: str, state: Mapping[str, Tensor], text: Tensor) -> ZeroShotClassifier:
    """As the words beside an output say: "{'use_bias': -4.6, 'norm_weight': True, 'norm_temperature': 50.0}"."""
    told = dict(re.findall(r"'(\w+)':\s*([\w.+-]+)", words))
    offset = told.get("use_bias", "None")
    bias = 0.0 if offset == "None" else float(offset)
    temperature = float(told.get("norm_temperature", config["norm_temperature"]))
    model = ZeroShotClassifier(
        state["linear.weight"].shape[1], text, temperature=temperature, bias=bias,
        normalise=told.get("norm_weight", "True") == "True",
    )  # fmt: skip
    if model.bias is not None and "cls_bias" in state:
        model.bias.data.copy_(state["cls_bias"])
    model.linear.load_state_dict({"weight": state["linear.weight"], "bias": state["linear.bias"]})
    return model


def _classify(model: ZeroShotClassifier, held: Mapping[str, Tensor]) -> dict[str, Any]:
    features = held["x"].clone().requires_grad_(True)
    logits = model(features)
    grad_x, grad_linear = torch.autograd.grad((logits * held["g"]).sum(), [features, model.linear.weight])
    return {
        "logits": logits.detach().numpy(),
        "grad_x": grad_x.numpy(),
        "grad_linear": grad_linear.numpy(),
        "zs_weight": model.classes_KD.T.numpy(),
        "other_logits": model(held["x"], held["other_classifier"]).detach().numpy(),
    }


# --- the losses


def run_losses(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Every case that has a loss among the outputs, told by its name."""
    case = Case(manifest, arrays)
    ours: dict[str, Any] = {}
    for key in manifest["outputs"]:
        name, _, what = key.rpartition("/")
        if what == "loss_cls":
            ours |= case.classes(name)
        elif what == "loss_box_reg":
            ours |= case.boxes(name)
        elif what == "image_loss":
            ours |= case.captions(name) if name.startswith("caption") else case.image_labels(name)
    return compare_all(ours, arrays, manifest)


class Case:
    """The stored regions of a few images, with the constants of the manifest."""

    def __init__(self, manifest: Mapping[str, Any], arrays: Arrays) -> None:
        self.config, self.state = manifest["config"], fill_manifest(manifest, prefix=PREFIX)
        self.held = {row["name"]: torch.from_numpy(arrays[row["name"]]) for row in manifest["inputs"]["order"]}
        self.counts = list(self.config["proposals"])
        images = range(len(self.counts))
        self.proposals = [self.held[f"proposals_{image}"] for image in images]
        self.gt_classes = torch.cat([self.held[f"gt_classes_{image}"] for image in images])
        self.gt_boxes = torch.cat([self.held[f"gt_boxes_{image}"] for image in images])
        self.labels = [self.held[f"image_labels_{image}"].tolist() for image in images]
        self.classes_total = int(self.config["classes"])
        self.class_weights = self.held["counts"].float() ** self.config["fed_loss_freq_weight"]

    def classes(self, name: str) -> dict[str, Any]:
        """Names are "sigmoid" or "softmax", then "fed" and "zero" for what leaves classes out."""
        kind, *parts = name.split("_")
        scores = self.held["scores"].clone().requires_grad_(True)
        weights = torch.ones(self.classes_total + 1)
        ours: dict[str, Any] = {}
        if "fed" in parts:
            odds = federated_odds(self.gt_classes, weights_K=torch.cat([self.class_weights, torch.zeros(1)]))
            ours[f"{name}/prob"] = odds.numpy()
            weights = torch.zeros(self.classes_total + 1)
            weights[self.held["fed_classes"]] = 1.0
            weights[-1] = 1.0
        if "zero" in parts:
            weights[:-1] *= (self.class_weights > LEAST_COUNT).float()
        if kind == "sigmoid":
            loss = sigmoid_class_loss(scores, self.gt_classes, weights_K=weights[:-1]).sum() / len(scores)
        else:
            loss = softmax_class_loss(scores, self.gt_classes, weights_K=weights)
        (gradient,) = torch.autograd.grad(loss, scores)
        return {**ours, f"{name}/loss_cls": loss.item(), f"{name}/grad_scores": gradient.numpy()}

    def boxes(self, name: str) -> dict[str, Any]:
        """Smooth L1 of the offsets, or the generalised overlap of the boxes, on foreground, over all regions."""
        prefix = f"{name}/" if name else ""
        stds: Any = tuple(1.0 / weight for weight in self.config["reg_weights"])
        deltas = self.held["deltas"].clone().requires_grad_(True)
        inside = self.gt_classes < self.classes_total
        proposals, truth = torch.cat(self.proposals)[inside], self.gt_boxes[inside]
        if "giou" in name:
            loss = generalized_box_iou_loss(decode_boxes(proposals, deltas[inside], stds=stds), truth, reduction="sum")
        else:
            wanted, beta = encode_boxes(proposals, truth, stds=stds), float(self.config["smooth_l1_beta"])
            off = (deltas[inside] - wanted).abs()
            loss = (torch.where(off < beta, 0.5 * off**2 / beta, off - 0.5 * beta) if beta > 0 else off).sum()
        loss = loss / len(deltas)
        (gradient,) = torch.autograd.grad(loss, deltas)
        return {f"{prefix}loss_box_reg": loss.item(), f"{prefix}grad_deltas": gradient.numpy()}

    def image_labels(self, name: str) -> dict[str, Any]:
        """Names are rules, with "_softmax" for the other loss; "dynamic" is a classifier of some classes."""
        leaves = {"scores": self.held["scores"].clone(), "prop_scores": self.held["prop_scores"].clone()}
        columns: list[int] = list(range(self.classes_total + 1))
        ours: dict[str, Any] = {}
        if name == "dynamic":
            mapped = column_of_class(self.held["dynamic_classes"], total=self.classes_total)
            columns, ours["dynamic/class_map"] = mapped.tolist(), mapped.numpy()
            leaves["scores"] = leaves["scores"][:, : len(self.held["dynamic_classes"]) + 1].clone()
        rule = name.removesuffix("_softmax") if name != "dynamic" else "max_size"
        if rule not in IMAGE_LABEL_RULES:
            return {}
        leaves = {key: value.requires_grad_(True) for key, value in leaves.items()}
        split = {key: torch.split(value, self.counts) for key, value in leaves.items()}
        total = torch.zeros(())
        chosen: list[int] = []
        for image, boxes in enumerate(self.proposals):
            regions = WeakRegions(
                logits_RK=split["scores"][image], boxes_R4=boxes, votes_RK=split["prop_scores"][image]
            )
            labels = [columns[label] for label in self.labels[image]]
            loss, picked = image_label_loss(regions, labels, rule=rule, softmax=name.endswith("_softmax"))
            total, chosen = total + loss, [*chosen, *picked]
        total = total / len(self.counts) * self.config["image_loss_weight"]
        torch.autograd.backward(total)
        ours |= {f"{name}/image_loss": total.item(), f"{name}/picked": chosen}
        return {**ours, **{f"{name}/grad_{key}": leaf.grad for key, leaf in leaves.items() if leaf.grad is not None}}

    def captions(self, name: str) -> dict[str, Any]:
        """Names begin with "caption" or "captiontag"; "_sync" is for negatives that have a weight of their own."""
        features = self.held["caption_x"].clone().requires_grad_(True)
        temperature = float(self.config["norm_temperature"])
        model = ZeroShotClassifier(features.shape[1], self.held["caption_text"], temperature=temperature)
        model.linear.load_state_dict({key: self.state[f"cls_score.linear.{key}"] for key in ("weight", "bias")})
        logits = torch.cat([model(features), model(features, self.held["caption_embeddings"])], dim=1)
        negative = float(self.config["neg_cap_weight"]) if name.endswith("_sync") else 1.0
        total = torch.zeros(())
        for image, scores in enumerate(torch.split(logits, self.counts)):
            if not len(scores):
                continue
            classes, captions = scores[:, : self.classes_total + 1], scores[:, self.classes_total + 1 :]
            term = caption_loss(captions[-1], image, negative_weight=negative)
            total = total + self.config["caption_weight"] * term
            if name.startswith("captiontag"):
                regions = WeakRegions(logits_RK=classes, boxes_R4=self.proposals[image])
                total = total + image_label_loss(regions, self.labels[image])[0]
        total = total / len(self.counts) * self.config["image_loss_weight"]
        (gradient,) = torch.autograd.grad(total, features)
        return {
            f"{name}/image_loss": total.item(),
            f"{name}/grad_x": gradient.numpy(),
            f"{name}/logits": logits.detach().numpy(),
        }
