"""`detic_c4`: Detic's OV-COCO detector from pixels to detections, and what its head learns from each kind of batch."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from clipself.conformance.check import Check
from clipself.conformance.dense_models import Arrays
from clipself.conformance.detic_losses import LEAST_COUNT, compare_all
from clipself.conformance.filling import fill_manifest
from clipself.conformance.told import thin, words_of
from clipself.data.detection import stack_padded
from clipself.detection.detectors.detic.c4 import C4Network
from clipself.detection.detectors.detic.c4_published import to_our_names
from clipself.detection.detectors.detic.settings import C4Settings, DeticSettings
from clipself.detection.detectors.two_stage.image_labels import image_label_terms, weak_boxes
from clipself.detection.detectors.two_stage.regions import RegionTargets, sample_regions
from clipself.detection.protocol import Proposals
from clipself.losses.captions import caption_loss
from clipself.losses.region_classes import sigmoid_class_loss
from clipself.ops.boxes import clip_boxes


def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Two pictures through the network, then through each branch of the head."""
    case = Case(manifest, arrays)
    ours = case.predict()
    for branch in sorted({key.split("/")[0] for key in arrays if "/" in key}):
        ours |= case.learn(branch)
    return compare_all(ours, arrays, manifest)


def settings_of(config: Mapping[str, Any], *, bias: bool) -> DeticSettings:
    """The published names of the sizes -> ours; `bias` is whether the classifier has one."""
    mean, std = (tuple(map(float, reversed(config[name]))) for name in ("pixel_mean_bgr", "pixel_std"))
    reading: dict[str, Any] = {"pixel_mean": mean, "pixel_std": std}
    own = C4Settings(
        depth=config["depth"], stem_width=config["stem_channels"], width=config["res2_channels"],
        bottleneck=config["bottleneck_res2"], stride_first=config["stride_in_1x1"],
        anchor_sides=tuple(config["anchor_sizes"]), anchor_ratios=tuple(config["anchor_ratios"]),
        bins=config["pool"][0], **reading,
    )  # fmt: skip
    weights: Any = tuple(map(float, config["reg_weights"]))
    return DeticSettings(
        heads="c4", c4=own, temperature=config["norm_temperature"], proposals_before=config["rpn_pre_nms"],
        proposals_after=config["rpn_post_nms"], proposal_nms=config["rpn_nms"],
        score_threshold=config["score_threshold"], nms=config["nms"], max_detections=config["detections"],
        bias=-1.0 if bias else 0.0, box_weights=weights, region_match=config["match_iou"], roi_samples=10_000,
    )  # fmt: skip


class Case:
    """The network of a manifest and its pictures."""

    def __init__(self, manifest: Mapping[str, Any], arrays: Arrays) -> None:
        self.manifest, self.arrays, self.config = manifest, arrays, manifest["config"]
        self.held = {row["name"]: torch.from_numpy(arrays[row["name"]]) for row in manifest["inputs"]["order"]}
        state = to_our_names(fill_manifest(manifest))
        self.settings = settings_of(self.config, bias="classifier.bias" in state)
        self.model = C4Network(self.settings, self.held["text"]).eval()
        self.model.load_state_dict(state, strict=True)
        self.images = range(sum(name.startswith("image_") and name[6:].isdigit() for name in self.held))
        pictures = [self.held[f"image_{image}"] for image in self.images]
        self.sizes = [(picture.shape[1], picture.shape[2]) for picture in pictures]
        mean, std = (
            torch.tensor(values)[:, None, None] for values in (self.settings.c4.pixel_mean, self.settings.c4.pixel_std)
        )
        # Stored blue first; what a detector is given is red first.
        normalised = [(picture.flip(0).float() - mean) / std for picture in pictures]
        self.pixels = stack_padded(normalised)

    @torch.no_grad()
    def predict(self) -> dict[str, Any]:
        """Map, proposals, detections, and detections at the size that a caller asked for."""
        features = self.model.read_images(self.pixels)
        ours: dict[str, Any] = {"res4": self._thin("res4", features)}
        scored = self.model.proposer([features])
        exact = replace(  # single precision has no logit of a probability near 1
            scored, logits_BA=scored.logits_BA.double(), deltas_BA4=scored.deltas_BA4.double(),
            anchors_A4=scored.anchors_A4.double(),
        )  # fmt: skip
        proposals = self.model.proposer.propose(exact, self.sizes)
        for image, (found, size) in enumerate(zip(proposals, self.sizes, strict=True)):
            ours[f"rpn_boxes_{image}"] = found.boxes.numpy()
            ours[f"rpn_logits_{image}"] = torch.logit(found.scores).numpy()
            done = self.model.find(features[[image]], found.boxes.float(), size)
            ours[f"boxes_{image}"], ours[f"scores_{image}"] = done.boxes.numpy(), done.scores.numpy()
            ours[f"classes_{image}"] = done.labels.numpy()
            ours[f"final_boxes_{image}"] = self._resize(image, done.boxes, size).numpy()
        return ours

    def _resize(self, image: int, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """To the size that the manifest's words tell, clipped, without those that have no area."""
        words = str(self.manifest["outputs"][f"final_boxes_{image}"])
        found = re.search(r"(\d+) x (\d+)", words)
        height, width = (int(found.group(1)), int(found.group(2))) if found else size
        scaled = boxes * boxes.new_tensor([width / size[1], height / size[0]] * 2)
        scaled = scaled.clamp(min=0).minimum(boxes.new_tensor([width, height] * 2))
        return scaled[((scaled[:, 2:] - scaled[:, :2]) > 0).all(1)]

    def learn(self, branch: str) -> dict[str, Any]:
        """Losses of a branch and gradients of their sum."""
        with torch.no_grad():
            features = self.model.read_images(self.pixels)
        features.requires_grad_(True)
        losses = self._boxes(features) if branch == "box" else self._labels(features, branch)
        self.model.zero_grad()
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        assert features.grad is not None
        ours: dict[str, Any] = {f"{branch}/{name}": loss.item() for name, loss in losses.items()}
        ours[f"{branch}/grad_res4"] = self._thin(f"{branch}/grad_res4", features.grad)
        for key in self.arrays:
            if key.startswith(f"{branch}/grad:"):
                (name,) = to_our_names({key.split(":", 1)[1]: torch.zeros(0)})
                gradient = self.model.get_parameter(name).grad
                assert gradient is not None
                ours[key] = gradient[: len(self.arrays[key])].numpy()
        return ours

    def _boxes(self, features: Tensor) -> dict[str, Tensor]:
        targets: list[RegionTargets] = [
            sample_regions(
                self.held[f"proposals_{image}"], self.held[f"gt_boxes_{image}"], self.held[f"gt_classes_{image}"],
                background=int(self.config["classes"]), settings=self.settings, generator=torch.Generator(),
                stds=self.model.stds, share=1.0,
            )
            for image in self.images
        ]  # fmt: skip
        regions = self.model.read_regions(features, [target.boxes for target in targets])
        labels = torch.cat([target.labels for target in targets])
        weights = (self.held["counts"] > LEAST_COUNT).float()
        classes = sigmoid_class_loss(self.model.classifier(regions), labels, weights_K=weights).sum() / len(regions)
        deltas = torch.split(self.model.deltas(regions), [len(target.labels) for target in targets])
        pairs = zip(deltas, targets, strict=True)
        off = [(mine[: len(target.deltas)] - target.deltas).abs().sum() for mine, target in pairs]
        return {"loss_cls": classes, "loss_box_reg": torch.stack(off).sum() / len(regions), "image_loss": classes * 0}

    def _labels(self, features: Tensor, branch: str) -> dict[str, Tensor]:
        """Of labels ("image"), of captions ("caption"), or of both ("captiontag")."""
        clipped = [clip_boxes(self.held[f"proposals_{image}"], size=self.sizes[image]) for image in self.images]
        proposals = [Proposals(boxes=boxes, scores=boxes.new_ones(len(boxes))) for boxes in clipped]
        most, own = self.config["weak_proposals"], self.config["image_box_size"]
        boxes = weak_boxes(proposals, self.sizes, most=most, image_box=own)
        regions = self.model.read_regions(features, boxes)
        total = regions.sum() * 0
        if branch.startswith("caption"):
            scores = self.model.classifier(regions, self.held["caption_embeddings"])
            captions = torch.split(scores, list(map(len, boxes)))
            weight = float(self.config["neg_cap_weight"])
            for image, logits in enumerate(captions):
                total = total + caption_loss(logits[-1], image, negative_weight=weight)
        if branch != "caption":
            labels = [self.held[f"image_labels_{image}"] for image in self.images]
            logits = self.model.classifier(regions)
            rule = self.config.get("image_label_loss", "max_size")
            total = total + image_label_terms(logits, boxes, labels, rule=rule, softmax=False)
        loss = total / len(boxes) * self.config["image_loss_weight"]
        return {"image_loss": loss, "loss_cls": total * 0, "loss_box_reg": self.model.deltas(regions).sum() * 0}

    def _thin(self, key: str, ours: Tensor) -> Any:
        return thin(ours, self.arrays[key].shape, words_of(self.manifest, key)).detach().numpy()
