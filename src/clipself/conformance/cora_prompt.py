"""`cora_region_prompt`: sentences, regions, one step of the region prompt, and CLIP-aligned labels."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import embed_names
from clipself.backbones.tokens import cut_sentences
from clipself.conformance.check import Check, compare
from clipself.conformance.cora_cases import batch_of, by_image, clip_of, filled_state, told_compare, tolerance
from clipself.conformance.dense_models import Arrays
from clipself.conformance.told import number_in
from clipself.detection.region_prompt.loss import prompt_loss, region_logits
from clipself.detection.region_prompt.regions import ResNetRegions
from clipself.losses.set_prediction import corners
from clipself.text.templates import load_templates


def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Compares every stored array, in the order in which it comes about."""
    config = manifest["config"]
    clip = clip_of(config, filled_state(manifest, arrays))
    regions = ResNetRegions(clip)
    table_NC = regions.prompt
    assert table_NC is not None
    texts_KD = embed_names(
        clip, config["classes"], templates="imagenet", wording="spaced", longest=config["text_len"], cache=False
    ).rows_SD
    images, sizes = batch_of(arrays)
    maps, boxes = regions.read(images, sizes), [corners(one) for one in by_image(arrays, "boxes")]
    table_NC.requires_grad_(True)
    logits_RK = region_logits(regions.embed(maps, boxes), texts_KD, temperature=config["tau"])
    labels_R = torch.cat(by_image(arrays, "labels"))
    loss = prompt_loss(logits_RK, labels_R) / max(1, len(labels_R))
    gradient, norm = _step(table_NC, loss, config)
    ours = {
        "tokens": _stored_sentences(clip, manifest),
        "text": texts_KD,
        "layer3": maps.inner.values,
        "roi_layer3": regions.cut(maps, boxes),
        "logits": logits_RK.detach(),
        "grad_positional_embedding": gradient,
        "relabelled": logits_RK.argmax(1),
    }
    checks = [told_compare(manifest, arrays, key, value) for key, value in ours.items() if key in arrays]
    checks.append(compare("loss", loss.item(), manifest["loss"], **tolerance(manifest, "loss")))
    told = manifest["facts_of_the_run"]["clip_norm"]
    checks.append(compare("gradient norm", norm, told, **tolerance(manifest, "gradient_norms")))
    key, after = "positional_embedding_after", table_NC.detach()
    least = number_in(manifest["tolerances"].get(key, ""), r"above ([0-9.e-]+)", default=1e-7)
    clear = gradient.abs() * min(1.0, config["clip_max_norm"] / norm) > least
    theirs = torch.from_numpy(arrays[key])
    return [*checks, compare(key, after[clear].numpy(), theirs[clear].numpy(), **tolerance(manifest, key))]


def _step(table_NC: nn.Parameter, loss: Tensor, config: Mapping[str, Any]) -> tuple[Tensor, float]:
    """One clipped step of AdamW -> the gradient ahead of the clipping, and its norm."""
    optimizer = torch.optim.AdamW(
        [table_NC], lr=config["lr"], betas=tuple(config["betas"]), eps=config["eps"],
        weight_decay=config["weight_decay"],
    )  # fmt: skip
    loss.backward()  # type: ignore[no-untyped-call]
    assert table_NC.grad is not None
    gradient = table_NC.grad.clone()
    norm = float(nn.utils.clip_grad_norm_([table_NC], config["clip_max_norm"]))
    optimizer.step()
    return gradient, norm


def _stored_sentences(clip: DenseCLIP, manifest: Mapping[str, Any]) -> Tensor:
    """Token ids of all names in the two sentences that the manifest tells."""
    told, config = str(manifest["outputs"]["tokens"]), manifest["config"]
    sentences = [line for line in load_templates("imagenet") if f"'{line}'" in told]
    sentences.sort(key=lambda line: told.index(f"'{line}'"))
    filled = [line.replace("{}", name) for line in sentences for name in config["classes"]]
    return cut_sentences(clip.tokenizer(filled), config["text_len"])[:, : config["text_len"]]
