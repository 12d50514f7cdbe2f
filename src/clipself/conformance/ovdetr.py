"""`ov_detr_*`: deformable attention, network, losses and a training step of OV-DETR."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from clipself.conformance.check import Check, compare, tolerance_of
from clipself.conformance.dense_models import Arrays
from clipself.conformance.filling import fill_manifest
from clipself.layers.deformable_attention import DeformableAttention


def run_attention(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """One deformable attention around points and around boxes: values and gradients."""
    config, (atol, rtol) = manifest["config"], tolerance_of(manifest, default=2e-4)
    attention = DeformableAttention(
        channels=config["d"], heads=config["heads"], levels=config["levels"], points=config["points"]
    )
    state = fill_manifest(manifest)
    attention.load_state_dict({name.split("_attn.")[-1]: value for name, value in state.items()})
    checks = []
    for kind in ("points", "boxes"):
        if f"out_{kind}" in arrays:
            ours = _attend(attention, kind, config["spatial_shapes"], arrays)
            checks += [compare(key, value.numpy(), arrays[key], atol=atol, rtol=rtol) for key, value in ours.items()]
    return checks


def _attend(attention: DeformableAttention, kind: str, shapes: Any, arrays: Arrays) -> dict[str, Tensor]:
    query, value = (torch.from_numpy(arrays[name]).requires_grad_() for name in ("query", "value"))
    out = attention(
        query, torch.from_numpy(arrays[f"reference_{kind}"]), value, [(rows, cols) for rows, cols in shapes],
        padding_BS=torch.from_numpy(arrays["padding"]),
    )  # fmt: skip
    wanted = (query, value, attention.sampling_offsets.weight)
    grads = torch.autograd.grad((out * torch.from_numpy(arrays[f"g_{kind}"])).sum(), wanted)
    names = ("grad_query", "grad_value", "grad_offsets_weight")
    return {f"out_{kind}": out.detach(), **{f"{name}_{kind}": grad for name, grad in zip(names, grads, strict=True)}}
