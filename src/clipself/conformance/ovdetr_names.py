"""`ov_detr_prompts`, `ov_detr_published_names`: sentences around names, and tensors of the released checkpoints."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from clipself.conformance.check import Check, compare
from clipself.conformance.dense_models import Arrays
from clipself.conformance.filling import fill_listed
from clipself.detection.detectors.deformable.learning import learning_groups
from clipself.detection.detectors.ovdetr.network import OvDetr
from clipself.detection.detectors.ovdetr.published import DETECTOR, MASKS, TRUNK, split_published, without_masks
from clipself.detection.detectors.trunks import ResNet50
from clipself.text.templates import fill_templates, load_templates
from clipself.text.vocabulary import load_vocabulary

REST_OF_COCO: Final[Mapping[int, str]] = {
    12: "street sign", 26: "hat", 29: "shoe", 30: "eye glasses", 45: "plate", 66: "mirror", 68: "window", 69: "desk",
    71: "door", 74: "computer mouse", 83: "blender", 91: "hair brush",
}  # fmt: skip
"""Names that OV-DETR encodes and COCO does not annotate, and the one that it says otherwise."""


def run_prompts(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """All sentences of all classes by their digest, and some word for word."""
    del arrays
    templates = load_templates("detection")
    checks = [compare("templates_per_class", len(templates), manifest["templates_per_class"], atol=0.0)]
    coco = load_vocabulary("coco_80")
    names = {
        "coco": [name for _, name in sorted({**dict(zip(coco.ids, coco.names, strict=True)), **REST_OF_COCO}.items())],
        "lvis": list(load_vocabulary("lvis_v1_1203").names),
    }
    for data in (name for name, told in manifest.items() if isinstance(told, Mapping)):
        told, spoken = manifest[data], names.get(data, [])
        sentences = [line for name in spoken for line in fill_templates(name, templates)]
        digest = hashlib.sha256("\n".join(sentences).encode()).hexdigest()
        checks.append(compare(f"{data}: classes", len(spoken), told["n_classes_encoded"], atol=0.0))
        checks.append(_same(f"{data}: digest of all sentences", digest, told["sha256"]))
        for name, lines in told.get("examples", {}).items():
            checks.append(_same(f"{data}: sentences of {name}", fill_templates(name, templates), lines))
        if "kept_ids_in_order" in told:
            kept = sorted(load_vocabulary("ov_coco_65").ids)
            checks.append(compare(f"{data}: kept ids", kept, told["kept_ids_in_order"], atol=0.0))
    return checks


def run_names(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Every tensor of a released checkpoint, filled by rule, into our modules: all of them, and nothing else."""
    del arrays
    listed = [(str(name), tuple(shape)) for name, shape in manifest["published_names"]]
    state = _filled(listed, manifest.get("aliases", ()))
    network, trunk = _load(state)
    parameters = [*network.parameters(), *trunk.parameters()]
    frozen = _count(one for one in parameters if not one.requires_grad)
    checks = [
        compare("n_entries", len(state), manifest["n_entries"], atol=0.0),
        compare("n_parameters", _count(parameters), manifest["n_parameters"], atol=0.0),
        compare("n_trainable", _count(parameters) - frozen, manifest["n_trainable"], atol=0.0),
        *_placed(state, network, trunk),
    ]
    groups = [_count(group["params"]) for group in learning_groups(network, trunk, weight_decay=0.0)]
    ours = dict(zip(("rest", "linear_proj", "backbone"), groups, strict=True)) | {"frozen": frozen}
    for name, elements in manifest.get("optimizer_groups_elements", {}).items():
        checks.append(compare(f"elements that learn as {name}", ours.get(name, -1), elements, atol=0.0))
    if "mask_model" in manifest:
        checks.append(_with_masks(manifest["mask_model"], state))
    if "without_two_stage" in manifest:
        checks.append(_without_proposals(manifest["without_two_stage"], state, manifest.get("aliases", ())))
    return checks


def _filled(listed: Iterable[tuple[str, tuple[int, ...]]], aliases: Iterable[Mapping[str, str]]) -> dict[str, Tensor]:
    rows = [{"name": name, "shape": shape} for name, shape in listed]
    state = fill_listed(rows)
    for name in state:
        for alias in aliases:
            prefix = alias.get("prefix", alias.get("name", ""))
            if name.startswith(prefix):
                state[name] = state[name.replace(prefix, alias["same_as"], 1)]
    return state


def _load(state: Mapping[str, Tensor], *, two_stage: bool = True) -> tuple[OvDetr, ResNet50]:
    """Strictly into modules of the sizes that the tensors have."""
    own, body = split_published(without_masks(state), source="filled by rule")
    trunk = ResNet50()
    depth = {
        side: len({name.split(".")[3] for name in own if name.startswith(f"transformer.{side}.layers.")})
        for side in ("encoder", "decoder")
    }
    levels, channels = own["transformer.level_embed"].shape
    attention = own["transformer.encoder.layers.0.self_attn.attention_weights.bias"]
    network = OvDetr(
        widths=trunk.widths, joint_dim=own["patch2query.weight"].shape[1], channels=channels, levels=levels,
        encoder_layers=depth["encoder"], decoder_layers=depth["decoder"], two_stage=two_stage,
        heads=len(attention) // (4 * levels), hidden=len(own["transformer.encoder.layers.0.linear1.bias"]),
    )  # fmt: skip
    network.load_state_dict(own, strict=True)
    trunk.take(body, source="filled by rule")
    return network, trunk


def _placed(state: Mapping[str, Tensor], network: OvDetr, trunk: ResNet50) -> list[Check]:
    """Whether each tensor is where its name says."""
    held = {**network.state_dict(), **{f"{TRUNK}{name}": value for name, value in trunk.state_dict().items()}}
    wrong = [name for name, value in held.items() if not torch.equal(state[name], value)]
    return [Check(key="tensors in their places", difference=float(len(wrong)), tolerance=0.0)]


def _with_masks(told: Mapping[str, Any], state: Mapping[str, Tensor]) -> Check:
    """The detector inside a checkpoint with masks is the detector."""
    extra = {name: torch.zeros(shape) for name, shape in told["extra"]}
    whole = {**{f"{told['prefix_of_all_detector_names']}{name}": value for name, value in state.items()}, **extra}
    inner = without_masks(whole)
    unknown = [name for name in extra if not name.startswith(MASKS)]
    fits = inner.keys() == state.keys() and told["prefix_of_all_detector_names"] == DETECTOR and not unknown
    return Check(key="the detector in a checkpoint with masks", difference=float(not fits), tolerance=0.0)


def _without_proposals(
    told: Mapping[str, Any], state: Mapping[str, Tensor], aliases: Iterable[Mapping[str, str]]
) -> Check:
    """The model whose queries are learned takes what it has more, and lacks what is missing."""
    extra = [(str(name), tuple(shape)) for name, shape in told["extra"]]
    listed = [(name, tuple(value.shape)) for name, value in state.items() if name not in told["missing"]]
    network, _ = _load(_filled([*listed, *extra], list(aliases)), two_stage=False)
    missing = [name for name in network.state_dict() if name in told["missing"]]
    return Check(key="a checkpoint without two stages", difference=float(len(missing)), tolerance=0.0)


def _count(parameters: Iterable[Tensor]) -> int:
    return int(np.sum([value.numel() for value in parameters]))


def _same(key: str, ours: object, theirs: object) -> Check:
    return Check(key=key, difference=float(ours != theirs), tolerance=0.0)
