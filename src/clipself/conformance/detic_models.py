"""`detic_c2_r50`, `detic_swin_small`, `detic_published_names`: Detic's OV-LVIS detector at published size."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from clipself.backbones.fast_init import unfilled
from clipself.backbones.swin import SWIN_B
from clipself.conformance.check import Check, compare_stored
from clipself.conformance.dense_models import Arrays
from clipself.conformance.filling import fill_manifest
from clipself.detection.detectors.detic.cascade_settings import CenterNetSettings
from clipself.detection.detectors.detic.network import CascadeNetwork
from clipself.detection.detectors.detic.published import fill_network, stored_texts
from clipself.detection.detectors.detic.settings import DeticSettings
from clipself.detection.detectors.swin import SwinTrunk
from clipself.detection.detectors.trunks import ResNet50
from clipself.ops.padding import pad_to_multiple

SWIN = "backbone.bottom_up."
RESNET = "backbone.bottom_up.base."
LEVELS = ("p3", "p4", "p5", "p6", "p7")


@torch.no_grad()
def run_swin(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Every stage that is handed out, and the table of relative positions."""
    config = manifest["config"]
    trunk = SwinTrunk(
        embed_dim=config["embed_dim"], depths=config["depths"], heads=config["heads"], window=config["window"],
        mlp_ratio=config["mlp_ratio"], out_stages=config["out_indices"],
    ).eval()  # fmt: skip
    trunk.load_state_dict(fill_manifest(manifest, prefix=SWIN), strict=True)
    maps = trunk(torch.from_numpy(arrays["image"]))
    ours = {f"swin{stage}": level for stage, level in zip(trunk.out_stages, maps, strict=True)}
    ours["relative_position_index"] = next(
        value for name, value in trunk.named_buffers() if name.endswith("relative_position_index")
    )
    return compare_outputs(ours, manifest, arrays)


def compare_outputs(ours: Mapping[str, Tensor], manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Every array that is an output, thinned as it is stored; whole numbers exactly; one that is not made fails."""
    given = {row["name"] for row in manifest["inputs"]["order"]}
    some = {key: value[: len(arrays[key])] for key, value in ours.items()
            if key.startswith("mask_probs") and key in arrays}  # fmt: skip  # of the first detections alone
    return compare_stored(manifest, arrays, {**ours, **some}, default=1e-3, given=given)


def released_settings(config: Mapping[str, Any]) -> DeticSettings:
    """Those of the released OV-LVIS detectors, but for what a manifest reduces."""
    before = config.get("pre_nms", CenterNetSettings().before)
    centernet = CenterNetSettings(before=before, after=config.get("post_nms", CenterNetSettings().after))
    return DeticSettings(
        heads="centernet", mask_convs=4, nms=config.get("nms", 0.5),
        score_threshold=config.get("score_threshold", 0.02), max_detections=config.get("detections", 300),
        one_class=config.get("one_class_per_proposal", False), centernet=centernet,
    )  # fmt: skip


def network_of(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> CascadeNetwork:
    """A network of published size with every tensor of a released checkpoint, whose names tell the trunk."""
    rows_KD = stored_texts(state, source="the manifest")[0]
    with unfilled():
        resnet = any(name.startswith(RESNET) for name in state)
        trunk = ResNet50(frozen_stages=-1) if resnet else SwinTrunk(**SWIN_B)
        network = CascadeNetwork(released_settings(config), rows_KD[:-1], trunk=trunk)
    fill_network(network, state, source="the manifest")
    return network.eval()


@torch.no_grad()
def run_model(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """From bytes to pyramid, proposals, detections and masks."""
    config = manifest["config"]
    network = network_of(fill_manifest(manifest), config)
    mean, std = (torch.tensor(config[f"pixel_{name}"])[:, None, None] for name in ("mean", "std"))
    image = torch.from_numpy(arrays["image"])
    image = image if config.get("format", "RGB") == "RGB" else image.flip(0)
    height, width = image.shape[1:]
    image_3HW = pad_to_multiple((image.float() - mean) / std, config["size_divisibility"])
    maps = network.read_images(image_3HW[None])
    (proposals,) = network.proposer.propose(network.proposer(maps))
    (found,) = network.cascade.detect(maps, [proposals], [(height, width)], network.settings)
    assert found.masks is not None
    ours: dict[str, Tensor] = {
        **dict(zip(LEVELS, maps, strict=True)), "proposal_boxes": proposals.boxes, "proposal_scores": proposals.scores,
        "boxes": found.boxes, "scores": found.scores, "classes": found.labels,
        "mask_probs": found.masks.sigmoid(),
    }  # fmt: skip
    return compare_outputs(ours, manifest, arrays)
