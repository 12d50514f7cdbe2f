"""`detic_c2_cascade`: proposals, cascade and masks of Detic's OV-LVIS detector, and what they learn from."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from clipself.conformance.check import Check
from clipself.conformance.dense_models import Arrays
from clipself.conformance.detic_models import compare_outputs
from clipself.conformance.filling import fill_manifest
from clipself.detection.detectors.detic.cascade import CascadeHeads
from clipself.detection.detectors.detic.cascade_settings import CascadeSettings, CenterNetSettings
from clipself.detection.detectors.detic.cascade_training import (
    Truth,
    label_boxes,
    region_losses,
    train_stages,
)
from clipself.detection.detectors.detic.centernet import CenterNetHead
from clipself.detection.detectors.detic.network import POOLED_LEVELS
from clipself.detection.detectors.detic.published import to_our_names
from clipself.detection.detectors.detic.settings import DeticSettings
from clipself.detection.detectors.two_stage.image_labels import image_label_terms
from clipself.ops.boxes import clip_boxes

Values = dict[str, Tensor]

MASK_CONV: Final = re.compile(r"cascade\.mask_head\.convs\.\d+\.conv\.weight")
"""Of each convolution of the mask head, whose number no constant tells."""


def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Follows the pyramid to detections, then the three kinds of training, and compares every stored array."""
    held = {row["name"]: torch.from_numpy(arrays[row["name"]]) for row in manifest["inputs"]["order"]}
    case = Case(manifest, held)
    ours = case.predict() | case.train_proposals() | case.train_boxes() | case.train_images()
    return compare_outputs(ours, manifest, arrays)


def settings_of(config: Mapping[str, Any], *, mask_convs: int) -> DeticSettings:
    """The published names of the constants -> ours; top-k values hold in training too."""
    held = config["centernet"]
    centernet = CenterNetSettings(
        ranges=tuple(map(tuple, held["sizes"])), min_overlap=held["min_overlap"], min_radius=held["min_radius"],
        focal_alpha=held["focal_alpha"], focal_gamma=held["gamma"], focal_beta=held["focal_beta"],
        ignore_above=held["ignore_high_fp"], centre_weight=held["pos_weight"], rest_weight=held["neg_weight"],
        distance_weight=held["reg_weight"], score_threshold=held["score_threshold"], nms=held["nms"],
        before=held["pre_nms"], after=held["post_nms"],
    )  # fmt: skip
    cascade = CascadeSettings(
        ious=tuple(config["cascade_ious"]), box_weights=tuple(map(tuple, config["reg_weights"])),
        width=config["fc_dim"], bins=config["pool"], mask_width=config["mask_dim"], mask_bins=config["mask_pool"],
    )  # fmt: skip
    return DeticSettings(
        heads="centernet", channels=config["width"], mask_convs=mask_convs, temperature=config["norm_temperature"],
        one_class=config["one_class_per_proposal"], score_threshold=config["score_threshold"], nms=config["nms"],
        max_detections=config["detections"], centernet=centernet, cascade=cascade,
    )  # fmt: skip


class Case:
    """The heads of a manifest, filled by rule, and its inputs."""

    def __init__(self, manifest: Mapping[str, Any], held: Mapping[str, Tensor]) -> None:
        config = manifest["config"]
        self.config, self.held, self.outputs = config, held, manifest["outputs"]
        self.state = to_our_names(fill_manifest(manifest))
        convs = sum(bool(MASK_CONV.fullmatch(name)) for name in self.state)
        settings, strides = settings_of(config, mask_convs=convs), config["strides"]
        self.settings = settings
        self.proposer = CenterNetHead(channels=settings.channels, strides=strides, settings=settings.centernet).eval()
        self.cascade = CascadeHeads(
            channels=settings.channels, texts_CD=held["text"], settings=settings, strides=strides[:POOLED_LEVELS]
        ).eval()
        for name, module in (("proposer.", self.proposer), ("cascade.", self.cascade)):
            own = {key.removeprefix(name): value for key, value in self.state.items() if key.startswith(name)}
            module.load_state_dict(own, strict=True)
        self.sizes = [(int(height), int(width)) for height, width in held["image_sizes"].tolist()]
        self.names = sorted(name for name in held if name[0] == "p" and name[1:].isdigit())

    def pyramid(self, *, learn: bool = False) -> list[Tensor]:
        """The levels, finest first."""
        return [self.held[name].clone().requires_grad_(learn) for name in self.names]

    def of_images(self, name: str) -> list[Tensor]:
        """One input of each image."""
        return [self.held[f"{name}_{image}"] for image in range(len(self.sizes))]

    @torch.no_grad()
    def predict(self) -> Values:
        """Proposals, scores of the stages, detections and masks."""
        maps = self.pyramid()
        proposals = self.proposer.propose(self.proposer(maps))
        passes = self.cascade.run(maps, proposals, self.sizes)
        found = self.cascade.detect(maps, proposals, self.sizes, self.settings)
        ours: Values = {}
        for image, (proposed, detected) in enumerate(zip(proposals, found, strict=True)):
            assert detected.masks is not None
            ours |= {
                f"proposal_boxes_{image}": proposed.boxes, f"proposal_scores_{image}": proposed.scores,
                f"boxes_{image}": detected.boxes, f"scores_{image}": detected.scores,
                f"classes_{image}": detected.labels, f"mask_probs_{image}": detected.masks.sigmoid(),
            }  # fmt: skip
            for stage, one in enumerate(passes):
                ours[f"stage{stage}_probs_{image}"] = torch.split(one.logits_RK, one.counts)[image].sigmoid()
        return ours

    def train_proposals(self) -> Values:
        """Targets and losses of the heat map and the boxes, with gradients of their sum."""
        maps = self.pyramid(learn=True)
        found = self.proposer(maps)
        targets = self.proposer.targets(found, self.of_images("gt_boxes"))
        sums = self.proposer.loss_sums(found, targets)
        centres, places = max(1, len(targets.centres_P)), max(1, int(targets.regressed_M.sum()))
        losses = {
            "loss_centernet_agn_pos": sums["centres"] / centres,
            "loss_centernet_agn_neg": sums["rest"] / centres,
            "loss_centernet_loc": sums["distances"] / places,
        }
        distances = targets.distances_M4
        return {
            **self.with_gradients("centernet", losses, maps),
            "centernet/pos_inds": targets.centres_P,
            "centernet/heatmap": targets.heat_M,
            "centernet/reg_targets": distances,
        }

    def train_boxes(self) -> Values:
        """Losses of the three stages on all given proposals and the true boxes."""
        maps = self.pyramid(learn=True)
        truths = [Truth(boxes=boxes, labels=labels) for boxes, labels in
                  zip(self.of_images("gt_boxes"), self.of_images("gt_classes"), strict=True)]  # fmt: skip
        boxes = [torch.cat([given, truth.boxes]) for given, truth in
                 zip(self.of_images("train_proposals"), truths, strict=True)]  # fmt: skip
        background = len(self.held["text"])
        losses = {"loss_mask": torch.zeros(())}
        settings = self.settings.cascade
        for stage, seen in enumerate(train_stages(self.cascade, maps, boxes, self.sizes)):
            targets = [
                label_boxes(one, truth, background=background, iou=settings.ious[stage])
                for one, truth in zip(seen.boxes, truths, strict=True)
            ]
            chosen_K = torch.zeros(background + 1)
            chosen_K[self.held[f"fed_classes_stage{stage}"]] = 1.0
            classes_R, offsets_R = region_losses(
                seen, targets, stds=settings.stds(stage), weights_RC=chosen_K[:-1].expand(len(seen.logits_RK), -1)
            )
            count = max(1, len(classes_R))
            losses |= {
                f"loss_cls_stage{stage}": classes_R.sum() / count,
                f"loss_box_reg_stage{stage}": offsets_R.sum() / count,
                f"image_loss_stage{stage}": torch.zeros(()),
            }
        return self.with_gradients("box", losses, maps)

    def train_images(self) -> Values:
        """Losses of the three stages on the best proposals of images of which only labels are known."""
        maps = self.pyramid(learn=True)
        boxes = [
            clip_boxes(one[: self.config["weak_proposals"]], size=size)
            for one, size in zip(self.of_images("train_proposals"), self.sizes, strict=True)
        ]
        labels = self.of_images("image_labels")
        losses = {"loss_mask": torch.zeros(())}
        for stage, seen in enumerate(train_stages(self.cascade, maps, boxes, self.sizes)):
            total = image_label_terms(seen.logits_RK, seen.boxes, labels, rule="max_size", softmax=False)
            losses |= {
                f"image_loss_stage{stage}": self.config["image_loss_weight"] * total / len(labels),
                f"loss_cls_stage{stage}": torch.zeros(()),
                f"loss_box_reg_stage{stage}": torch.zeros(()),
            }
        return self.with_gradients("image", losses, maps)

    def with_gradients(self, case: str, losses: Mapping[str, Tensor], maps: Sequence[Tensor]) -> Values:
        """The losses, and the gradients of their sum that the manifest holds."""
        modules = {"proposer": self.proposer, "cascade": self.cascade}
        for module in modules.values():
            module.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        learned = {f"{part}.{name}": value for part, module in modules.items()
                   for name, value in module.named_parameters()}  # fmt: skip
        ours: Values = {f"{case}/{name}": loss for name, loss in losses.items()}
        for name, level in zip(self.names, maps, strict=True):
            ours[f"{case}/grad_{name}"] = torch.zeros_like(level) if level.grad is None else level.grad
        for key in (key for key in self.outputs if key.startswith(f"{case}/grad:")):
            (name,) = to_our_names({key.partition(":")[2]: torch.zeros(())})
            gradient = learned[name].grad
            ours[key] = torch.zeros_like(learned[name]) if gradient is None else gradient
        return ours
