"""`ov_detr_deform_attn`, `ov_detr_small`, `ov_detr_r50`: attention and network of OV-DETR."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from clipself.conformance.check import Check, compare, compare_stored, compare_told
from clipself.conformance.dense_models import Arrays
from clipself.conformance.filling import fill_manifest
from clipself.detection.detectors.deformable.network import BoxSet, Encoded
from clipself.detection.detectors.deformable.postprocess import select_boxes
from clipself.detection.detectors.ovdetr.network import OvDetr
from clipself.detection.detectors.ovdetr.published import split_published
from clipself.detection.detectors.trunks import ResNet50
from clipself.layers.deformable_attention import DeformableAttention
from clipself.layers.sine_positions import padded_sine_positions


def run_attention(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """One deformable attention around points and around boxes: values and gradients."""
    config = manifest["config"]
    attention = DeformableAttention(
        channels=config["d"], heads=config["heads"], levels=config["levels"], points=config["points"]
    )
    state = fill_manifest(manifest)
    attention.load_state_dict({name.split("_attn.")[-1]: value for name, value in state.items()})
    checks = []
    for kind in ("points", "boxes"):
        if f"out_{kind}" in arrays:
            ours = _attend(attention, kind, config["spatial_shapes"], arrays)
            checks += [
                compare_told(manifest, key, value.numpy(), arrays[key], default=2e-4)
                for key, value in ours.items()
                if key in arrays
            ]
    return checks


def _attend(attention: DeformableAttention, kind: str, shapes: Any, arrays: Arrays) -> dict[str, Tensor]:
    query, value = (torch.from_numpy(arrays[name]).requires_grad_() for name in ("query", "value"))
    out = attention(
        query, torch.from_numpy(arrays[f"reference_{kind}"]), value, [(rows, cols) for rows, cols in shapes],
        padding_BS=torch.from_numpy(arrays["padding"]) if "padding" in arrays else None,
    )  # fmt: skip
    wanted = (query, value, attention.sampling_offsets.weight)
    grads = torch.autograd.grad((out * torch.from_numpy(arrays[f"g_{kind}"])).sum(), wanted)
    names = ("grad_query", "grad_value", "grad_offsets_weight")
    return {f"out_{kind}": out.detach(), **{f"{name}_{kind}": grad for name, grad in zip(names, grads, strict=True)}}


@torch.no_grad()
def run_network(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """From given maps of the trunk to boxes of all classes, chunk by chunk."""
    config = manifest["config"]
    network = network_of(config, fill_manifest(manifest), widths=config["backbone_channels"])
    maps = [torch.from_numpy(arrays[f"feat{index}"]) for index in range(len(config["backbone_channels"]))]
    mask, text = torch.from_numpy(arrays["mask"]), torch.from_numpy(arrays["text"])
    encoded = network.encode(maps, mask)
    chunks = _by_chunks(network, encoded, text, config.get("classes_per_chunk") or len(text))
    layers = [_joined(sets) for sets in zip(*chunks, strict=True)]
    ours = {**predictions_of(layers), **_encoded(network, maps, encoded)}
    first = text[: config.get("classes_per_chunk") or len(text)]
    ours["init_reference"] = encoded.queries.references.repeat(1, len(first), 1)
    if "hs_last_chunk0" in arrays:
        ours["hs_last_chunk0"] = _hidden(network, encoded, network.condition(first, True))
    for index, size in enumerate(config.get("original_sizes", ())):
        found = select_boxes(
            layers[-1].logits_BN[index], layers[-1].boxes_BN4[index], queries=_queries(encoded), size=size,
            most=config.get("detections", 300),
        )  # fmt: skip
        ours |= {f"det_scores_{index}": found.scores, f"det_labels_{index}": found.labels}
        ours |= {f"det_boxes_{index}": found.boxes}
    return checks_of(ours, manifest, arrays, default=2e-4)


@torch.no_grad()
def run_published_size(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """From pixels to boxes, with the published ResNet-50 and every tensor of a published checkpoint."""
    config = manifest["config"]
    state = fill_manifest(manifest)
    trunk = ResNet50()
    network = network_of(config, state, widths=trunk.widths, trunk=trunk).eval()
    mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))
    mask = torch.from_numpy(arrays["mask"])
    images = ((torch.from_numpy(arrays["image"]).float() / 255 - mean) / std).masked_fill(mask[:, None], 0.0)
    maps = trunk(images)
    encoded = network.encode(maps, mask)
    layers = network.decode(encoded, _same_for_all(network.condition(torch.from_numpy(arrays["text"]), True), mask))
    ours = {**predictions_of(layers), **_encoded(network, maps, encoded)}
    ours |= {f"res{place + 3}": one for place, one in enumerate(maps)}
    counted = sum(value.numel() for part in (trunk, network) for value in part.parameters())
    checks = checks_of(ours, manifest, arrays, default=1e-3)
    return [*checks, compare("n_params", counted, manifest.get("n_params", counted), atol=0.0)]


def network_of(
    config: Mapping[str, Any], state: Mapping[str, Tensor], *, widths: Sequence[int], trunk: ResNet50 | None = None
) -> OvDetr:
    """The network that a manifest's `config` describes by the published names, with its tensors."""
    refine = bool(config.get("with_box_refine", True))
    own, body = split_published(state, refine=refine, source="filled by rule")
    network = OvDetr(
        widths=widths, joint_dim=own["patch2query.weight"].shape[1], channels=config["hidden_dim"],
        heads=config["nheads"], encoder_layers=config["enc_layers"], decoder_layers=config["dec_layers"],
        hidden=config["dim_feedforward"], levels=config["num_feature_levels"],
        encoder_points=config.get("enc_n_points", 4), decoder_points=config.get("dec_n_points", 4),
        queries=config["num_queries"], dropout=config.get("dropout", 0.1),
        two_stage=bool(config.get("two_stage", True)), refine=refine,
    )  # fmt: skip
    network.load_state_dict(own, strict=True)
    if trunk is not None:
        trunk.load_state_dict(body, strict=True)
    return network.eval()


def checks_of(
    ours: Mapping[str, Tensor], manifest: Mapping[str, Any], arrays: Arrays, *, default: float
) -> list[Check]:
    """Every stored array that is no input; one that this version does not compute fails."""
    inputs = {row["name"] for row in manifest["inputs"]["order"]}
    return compare_stored(manifest, arrays, ours, default=default, given={*inputs, "loss_names"})


def _same_for_all(conditions_RC: Tensor, mask_BHW: Tensor) -> Tensor:
    return conditions_RC.expand(len(mask_BHW), -1, -1)


def _queries(encoded: Encoded) -> int:
    return encoded.queries.contents_BQC.shape[1]


def _by_chunks(network: OvDetr, encoded: Encoded, text_KD: Tensor, chunk: int) -> list[list[BoxSet]]:
    batch = encoded.queries.contents_BQC
    return [
        network.decode(encoded, _same_for_all(network.condition(some, True), batch))
        for some in torch.split(text_KD, chunk)
    ]


def _joined(sets: Sequence[BoxSet]) -> BoxSet:
    """One layer's predictions of all chunks."""
    return BoxSet(
        logits_BN=torch.cat([one.logits_BN for one in sets], dim=1),
        boxes_BN4=torch.cat([one.boxes_BN4 for one in sets], dim=1),
    )


def predictions_of(layers: Sequence[BoxSet]) -> dict[str, Tensor]:
    """Predictions of all layers by the manifests' names."""
    *earlier, last = layers
    ours = {"pred_logits": last.logits_BN[..., None], "pred_boxes": last.boxes_BN4}
    if last.embeddings_BND is not None:
        ours["pred_embed"] = last.embeddings_BND
    for index, one in enumerate(earlier):
        ours |= {f"aux{index}_logits": one.logits_BN[..., None], f"aux{index}_boxes": one.boxes_BN4}
    return ours


def _encoded(network: OvDetr, maps: Sequence[Tensor], encoded: Encoded) -> dict[str, Tensor]:
    """What stands ahead of the decoder, zero where there is padding."""
    memory, levels = encoded.memory, network.levels_of(maps)
    rows, cols = memory.grids[0]
    outside = memory.padding_BS[:, : rows * cols].reshape(-1, rows, cols)
    positions = padded_sine_positions(outside, network.transformer.channels)
    ours = {
        "memory": memory.tokens_BSC.masked_fill(memory.padding_BS[..., None], 0.0),
        "pos_level0": positions.masked_fill(outside[:, None], 0.0),
        "src_last": levels[-1],
        "init_reference": encoded.queries.references,
    }
    if encoded.proposals is not None:
        ours["enc_logits"] = encoded.proposals.logits_BN[..., None]
        ours["enc_boxes"] = encoded.proposals.boxes_BN4
    return ours


def _hidden(network: OvDetr, encoded: Encoded, conditions_RC: Tensor) -> Tensor:
    """What the last layer of the decoder hands to its heads."""
    caught: list[Tensor] = []
    handle = network.feature_align[-1].register_forward_pre_hook(lambda module, given: caught.append(given[0]))
    network.decode(encoded, _same_for_all(conditions_RC, encoded.queries.contents_BQC))
    handle.remove()
    return caught[-1]
