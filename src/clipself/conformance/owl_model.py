"""`owl_model`: a small OWL-ViT under its published names; outputs, losses and the clipped gradient of a step."""

from collections.abc import Mapping
from typing import Any, Final

import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP, TowerIdentity
from clipself.choices import pick
from clipself.conformance.check import Check, compare_told, unchecked
from clipself.conformance.dense_models import Arrays
from clipself.conformance.filling import fill_listed
from clipself.conformance.owl import PUBLISHED, constants_of, targets_of
from clipself.conformance.told import words_of
from clipself.detection.detectors.owl.heads import NO_QUERY, OwlHeads, OwlReading, cell_bias
from clipself.detection.detectors.owl.network import OwlNetwork
from clipself.detection.detectors.owl.published import CLIP as IN_CLIP
from clipself.detection.detectors.owl.published import from_owlvit, part_of
from clipself.losses.owl import owl_shares

ACTIVATIONS: Final[Mapping[str, bool]] = {
    "quick gelu": True, "quick_gelu": True, "gelu": False, "exact gelu": False, "gelu, exact": False,
}  # fmt: skip
"""Activation of the towers -> whether it is QuickGELU."""
BOX_GELUS: Final[Mapping[str, str]] = {
    "gelu, tanh approximation": "tanh", "gelu": "exact", "exact gelu": "exact", "gelu, exact": "exact",
}  # fmt: skip


def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Compares every stored array, and the norm of the gradient of every parameter."""
    network = build(manifest)
    ours = _outputs(network, arrays)
    if "box_bias" in arrays:
        ours["box_bias"] = _bias_case(network, len(arrays["box_bias"]), words=words_of(manifest, "box_bias"))
    gradients = _losses_and_gradients(network, manifest, arrays, ours)
    names = {row["name"]: row["transformers"] for row in manifest["params"]}
    for name, published in names.items():
        if f"grad:{name}" in arrays:
            ours[f"grad:{name}"] = _gradient(gradients, published, arrays[f"grad:{name}"].shape)
    given = {"image", "tokens", "labels", "boxes"}
    checks = [_check(manifest, key, ours.get(key), theirs) for key, theirs in arrays.items() if key not in given]
    return checks + [
        _check(manifest, f"grad_norms/{name}", _gradient(gradients, names[name]).norm(), norm)
        for name, norm in manifest["grad_norms"].items()
    ]


def build(manifest: Mapping[str, Any]) -> OwlNetwork:
    """The network that a manifest describes, every parameter by its rule, through transformers' names."""
    rows, config = manifest["params"], manifest["config"]
    filled = fill_listed(rows, manifest.get("fill_rule"))
    state = from_owlvit({row["transformers"]: filled[row["name"]] for row in rows})
    network = OwlNetwork(_towers(config, state), _heads(config, state))
    own = network.state_dict()
    unused = {name: own[name] for name in (f"{IN_CLIP}logit_scale", f"{IN_CLIP}visual.proj")}
    network.load_state_dict({**unused, **state}, strict=True)
    return network.requires_grad_(True).eval()


def _towers(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> DenseCLIP:
    width, context = config["vision_features"], state[f"{IN_CLIP}positional_embedding"].shape[0]
    model_cfg = {
        "embed_dim": config["embed_dim"],
        "quick_gelu": pick(ACTIVATIONS, config["clip_activation"], what="activation of the towers"),
        "vision_cfg": {
            "image_size": config["image_side"], "patch_size": config["vision_patch_size"], "width": width,
            "layers": config["vision_num_layers"], "head_width": width // config["vision_heads"],
        },
        "text_cfg": {
            "context_length": context, "vocab_size": config["vocab_size"], "width": config["text_features"],
            "heads": config["text_num_heads"], "layers": config["text_num_layers"],
        },
    }  # fmt: skip
    name = "OWL of a manifest"
    clip = DenseCLIP(
        CLIP(**model_cfg), name=name, model_cfg=model_cfg, tokenizer=None,
        identity=TowerIdentity(image=name, text=name), image_mean=OPENAI_DATASET_MEAN, image_std=OPENAI_DATASET_STD,
    )  # fmt: skip
    for module in clip.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = config["norm_eps"]["clip"]
    return clip


def _heads(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> OwlHeads:
    embed_dim, channels = state["heads.embed.weight"].shape
    return OwlHeads(
        channels=channels, embed_dim=embed_dim, merge=config["merge_class_token"],
        norm_eps=config["norm_eps"].get("merged_class_token", 1e-6), normalize=config["normalize"],
        gelu=pick(BOX_GELUS, config["box_head_activation"], what="activation of the box head"),
        box_bias=config["box_bias"], objectness="heads.objectness.dense0.weight" in state,
    )  # fmt: skip


def _read(network: OwlNetwork, arrays: Arrays) -> tuple[OwlReading, Tensor, Tensor]:
    """Reading of the pictures, query embeddings (B, Q, D) and logits (B, P, Q)."""
    mean, std = (torch.tensor(part)[:, None, None] for part in (network.clip.image_mean, network.clip.image_std))
    images = (torch.from_numpy(arrays["image"]).permute(0, 3, 1, 2) - mean) / std
    tokens = torch.from_numpy(arrays["tokens"]).long()
    absent_BQ = tokens[..., 0] == 0
    queries = network.embed_ids(tokens.flatten(0, 1)).reshape(*tokens.shape[:2], -1)
    queries = torch.where(absent_BQ[..., None], _padding_query(network, tokens.shape[2]), queries)
    reading = network.read(images)
    logits = network.heads.logits(reading, queries).masked_fill(absent_BQ[:, None], NO_QUERY)
    return reading, queries, logits


@torch.no_grad()
def _padding_query(network: OwlNetwork, length: int) -> Tensor:
    """What the published text tower makes of padding: every position is masked, so that all weigh alike."""
    stock: Any = network.clip.clip
    causal = stock.attn_mask
    stock.attn_mask = torch.full_like(causal, -1e10)
    row: Tensor = stock.encode_text(torch.zeros(1, length, dtype=torch.long))[0]
    stock.attn_mask = causal
    return row


@torch.no_grad()
def _outputs(network: OwlNetwork, arrays: Arrays) -> dict[str, Any]:
    reading, queries, logits = _read(network, arrays)
    objectness = {} if reading.objectness_BP is None else {"objectness_logits": reading.objectness_BP}
    return {
        **objectness,
        "feature_map": reading.features_BPC.reshape(arrays["feature_map"].shape),
        "query_embeddings": queries,
        "class_embeddings": reading.classes_BPD,
        "pred_logits": logits,
        "pred_boxes": reading.boxes_BP4,
    }


def _losses_and_gradients(
    network: OwlNetwork, manifest: Mapping[str, Any], arrays: Arrays, ours: dict[str, Any]
) -> dict[str, Tensor]:
    """Adds "loss" and "grad_norm" of each picture; returns the mean of the pictures' clipped gradients."""
    named, limit = dict(network.named_parameters()), float(manifest["config"]["clip_norm"])
    mean = {name: torch.zeros_like(parameter) for name, parameter in named.items()}
    constants = constants_of({**PUBLISHED, **manifest["config"]})
    targets, losses, norms = targets_of(arrays["labels"], arrays["boxes"]), [], []
    for place, target in enumerate(targets):
        one = {name: arrays[name][place : place + 1] for name in ("image", "tokens")}
        reading, _, logits = _read(network, one)
        shares = owl_shares([logits[0, :, 1:]], [reading.boxes_BP4[0]], [target], constants=constants)
        loss = torch.stack(list(shares.values())).sum()
        found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        gradients = {name: value for name, value in zip(named, found, strict=True) if value is not None}
        norm = torch.stack([value.norm() for value in gradients.values()]).norm()
        for name, value in gradients.items():
            mean[name] += value * (limit / norm).clamp(max=1.0) / len(targets)
        losses.append(loss.detach())
        norms.append(norm)
    ours |= {"loss": torch.stack(losses), "grad_norm": torch.stack(norms)}
    return mean


def _gradient(gradients: Mapping[str, Tensor], published: str, shape: tuple[int, ...] | None = None) -> Tensor:
    gradient = part_of(gradients, published)
    return gradient if shape is None else gradient.reshape(shape)


def _bias_case(network: OwlNetwork, cells: int, *, words: str) -> Tensor:
    """The starting boxes of the grid that the manifest's words tell, such as "5 rows 7 columns"."""
    numbers = [int(word) for word in words.replace("-", " ").split() if word.isdigit()]
    grids = [(rows, cols) for rows in numbers for cols in numbers if rows * cols == cells]
    rows, cols = next((one for one in grids if f"{one[0]} rows" in words), grids[0])
    return cell_bias((rows, cols), starts_at=network.heads.starts_at)


def _check(manifest: Mapping[str, Any], key: str, ours: Any, theirs: Any) -> Check:
    """With the tolerance of its kind where the manifest states one: gradients are far smaller than outputs."""
    return unchecked(key) if ours is None else compare_told(manifest, key, ours.detach().numpy(), theirs, default=1e-4)
