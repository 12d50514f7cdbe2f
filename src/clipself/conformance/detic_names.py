"""`detic_published_names`: every list of names of a released Detic checkpoint finds its places in our networks."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from clipself.backbones.fast_init import unfilled
from clipself.conformance.check import Check, compare
from clipself.conformance.dense_models import Arrays
from clipself.conformance.detic_models import network_of
from clipself.detection.detectors.detic import c4_published, published
from clipself.detection.detectors.detic.c4 import C4Network
from clipself.detection.detectors.detic.settings import DeticSettings

Listed = dict[str, tuple[int, ...]]


def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Each model's list into a network of the published settings: all of it, and nothing else."""
    del arrays
    return [check for name in manifest["models"] for check in _check_model(name, manifest["models"])]


def listed_of(name: str, models: Mapping[str, Any]) -> Listed:
    """Names and shapes of a model, of which some say how they differ from another."""
    model = models[name]
    if "published_names" in model:
        return {key: tuple(shape) for key, shape in model["published_names"]}
    listed = listed_of(model["same_as"], models)
    for key in model.get("missing", ()):
        del listed[key]
    changed = [*model.get("extra", ()), *model.get("other_shape", ())]
    return {**listed, **{key: tuple(shape) for key, shape in changed}}


def _check_model(name: str, models: Mapping[str, Any]) -> list[Check]:
    """Fills the list with numbers that tell its tensors apart, and looks where they went."""
    listed = listed_of(name, models)
    state = {key: torch.full((1,) * len(shape), 1 / (place + 1)).expand(shape) for place, (key, shape) in
             enumerate(listed.items())}  # fmt: skip
    network, placed = _load_cascade(state) if any("centernet" in key for key in listed) else _load_c4(state)
    own = network.state_dict()
    strays = [key for key, value in placed.items() if not bool((own[key] == value).all())]
    checks = [
        Check(key=f"{name}: tensors out of place {strays[:3]}", difference=float(len(strays)), tolerance=0.0),
        compare(f"{name}: tensors without a name", len(own.keys() - placed.keys()), 0, atol=0.0),
    ]
    parameters = list(network.parameters())
    spare = sum(value.numel() for key, value in state.items() if key.startswith(f"{published.CLASSIFIER}"))
    ours = {
        "n_entries": len(state),
        "n_parameters": sum(one.numel() for one in parameters) + spare,
        "n_trainable": sum(one.numel() for one in parameters if one.requires_grad) + spare,
    }
    return checks + [compare(f"{name}: {key}", value, models[name][key], atol=0.0) for key, value in ours.items()
                     if key in models[name]]  # fmt: skip


def _load_cascade(state: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Tensor]]:
    return network_of(state, {}), published.to_our_names(state)


def _load_c4(state: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Tensor]]:
    texts_KD = state[c4_published.TEXTS].mT
    placed = c4_published.to_our_names(state)
    with unfilled():
        network = C4Network(DeticSettings(heads="c4"), texts_KD[:-1])
    network.load_state_dict(placed, strict=True)
    return network, placed
