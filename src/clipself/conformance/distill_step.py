"""`clipself_step`: one step of the published training, loss and gradients."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.layouts import to_official_eva
from clipself.backbones.loading import blank_clip, clip_from_state_dict
from clipself.backbones.strict import load_strictly
from clipself.backbones.trainable import train_last_blocks
from clipself.conformance.check import Check, compare
from clipself.conformance.dense_models import Arrays
from clipself.conformance.filling import SCALES, fill, in_threads, kind_of, noise, scale_of
from clipself.conformance.told import number_in
from clipself.losses.cosine import cosine_loss
from clipself.ops.grids import grid_boxes
from clipself.ops.pooling import pool_boxes


def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Teacher by rule, student a little beside it, one backward pass; loss, features and gradient norms compared."""
    words = manifest.get("weights", {}).get("student", "")
    apart = number_in(words, r"delta = ([0-9.e-]+)", default=0.01)
    scales = {kind: number_in(words, rf"([0-9.]+) {kind}", default=scale) for kind, scale in SCALES.items()}
    teacher, student = build_pair(manifest["model"], apart=apart, scales=scales)
    blocks = number_in(manifest.get("mode", ""), r"(\d+) blocks unlocked", default=len(student.trunk.parts))
    learning = train_last_blocks(student.trunk, int(blocks))
    images, crops, boxes = draw_batch(manifest, arrays)
    with torch.no_grad():
        teacher_RD = teacher.encode_image(crops, normalize=False)
    student_RD = pool_boxes(student.dense_map(images), list(boxes.chunk(len(images))))
    loss = cosine_loss(student_RD, teacher_RD)
    loss.backward()  # type: ignore[no-untyped-call]
    official = official_names(student)
    gradients = {official[name]: parameter.grad for name, parameter in student.clip.named_parameters()}
    heads = {"image_head": images, "crop_head": crops}  # the first numbers, by which a wrong generator is noticed
    checks = [
        compare(name, drawn.flatten()[: len(arrays[name])].numpy(), arrays[name], atol=0.0)
        for name, drawn in heads.items()
        if name in arrays
    ]
    checks += _check_features(manifest, arrays, loss, student_RD, teacher_RD, boxes)
    checks += _check_gradients(manifest, arrays, gradients)
    return [*checks, _check_frozen(manifest, learning, gradients)]


def build_pair(model: str, *, apart: float, scales: Mapping[str, float] = SCALES) -> tuple[DenseCLIP, DenseCLIP]:
    """Teacher filled by the rule and a student at a fixed distance, both through the checkpoint loader.

    Args:
        model: open_clip or EVA-CLIP name.
        apart: How far the student stands from its teacher, in standard deviations of each parameter.
        scales: Standard deviations by kind of parameter.
    """
    blank = blank_clip(model)
    shapes = {
        official: tuple(parameter.shape)
        for (name, parameter), official in zip(
            blank.clip.named_parameters(), official_names(blank).values(), strict=True
        )
        if name.startswith("visual.")
    }
    state = dict(zip(shapes, in_threads(lambda item: fill(*item, scales=scales), shapes.items()), strict=True))
    teacher = clip_from_state_dict(model, state, source="filled by rule", quick_gelu=not model.startswith("EVA"))
    offsets = in_threads(lambda item: _offset(*item, apart, scales), shapes.items())
    student = teacher.copy()
    moved = {name: state[name] + offset for name, offset in zip(shapes, offsets, strict=True)}
    load_strictly(student.clip, moved, source="filled by rule")
    return teacher, student


def official_names(clip: DenseCLIP) -> dict[str, str]:
    """Our parameter name -> the published one."""
    return to_official_eva([name for name, _ in clip.clip.named_parameters()])


def _offset(name: str, shape: tuple[int, ...], apart: float, scales: Mapping[str, float]) -> Tensor:
    scale = np.float32(scale_of(kind_of(name, shape), shape, scales))
    return torch.from_numpy(np.float32(apart) * scale * noise(f"{name}/student", shape))


def draw_batch(manifest: Mapping[str, Any], arrays: Arrays) -> tuple[Tensor, Tensor, Tensor]:
    """Student images, teacher crops and normalised boxes of all images, as the words of the manifest say."""
    batch = manifest["batch"]
    seed = int(number_in(batch["rng"], r"default_rng\((\d+)\)"))
    generator = np.random.default_rng(seed)
    drawn = []
    for sentence in batch["order"]:
        shape = re.search(r"standard_normal\(\(([\d, ]+)\)\)", sentence)
        if shape is None:
            raise ValueError(f"the manifest says {sentence!r}; expected 'standard_normal((B,3,H,W))'")
        sizes = tuple(int(size) for size in shape.group(1).split(","))
        drawn.append(torch.from_numpy(generator.standard_normal(sizes).astype(np.float32)))
    layout = re.search(r"grid of (\d+) rows x (\d+) columns", str(batch.get("boxes", "")))
    if layout is not None:
        boxes = grid_boxes(int(layout.group(1)), int(layout.group(2))).repeat(len(drawn[0]), 1)
    else:
        stored = torch.from_numpy(np.asarray(arrays["boxes"], dtype=np.float32)).flatten(0, -2)
        boxes = stored[stored[:, 4] > 0.5, :4]
    return drawn[0], drawn[1], boxes


def _check_features(
    manifest: Mapping[str, Any], arrays: Arrays, loss: Tensor, student_RD: Tensor, teacher_RD: Tensor, boxes: Tensor
) -> list[Check]:
    loss_atol = number_in(manifest["tolerances"]["loss"], r"abs\s+([0-9.e-]+)")
    cosine = F.cosine_similarity(student_RD, teacher_RD)
    ours = {
        "student_roi": student_RD,
        "teacher_crop": teacher_RD,
        "cosine": cosine,
        "boxes": F.pad(boxes, (0, 1), value=1),
    }
    checks = [compare("loss", loss.item(), manifest["loss"], atol=loss_atol)]
    if "loss" in arrays:
        checks.append(compare("loss, stored", loss.item(), arrays["loss"].item(), atol=loss_atol))
    for name, value in ours.items():
        # Crop embeddings are not unit vectors; a relative term keeps the allowance of the loss on their scale.
        theirs = arrays[name].reshape(-1, *arrays[name].shape[2:]) if arrays[name].ndim > value.ndim else arrays[name]
        checks.append(compare(name, value.detach().numpy(), theirs, atol=1e-5, rtol=1e-5))
    return checks


def _check_gradients(
    manifest: Mapping[str, Any], arrays: Arrays, gradients: Mapping[str, Tensor | None]
) -> list[Check]:
    norm_rtol = number_in(manifest["tolerances"]["grad_norm"], r"rel\s+([0-9.e-]+)")
    share = number_in(manifest["tolerances"].get("grad_vectors", ""), r"abs\s+([0-9.e-]+)", default=2e-5)
    norms = {name: float(grad.double().norm()) for name, grad in gradients.items() if grad is not None}
    total = float(np.sqrt(sum(norm**2 for norm in norms.values())))
    checks = [compare("total_grad_norm", total, manifest["total_grad_norm"], atol=0.0, rtol=norm_rtol)]
    for block, norm in manifest["block_grad_norm"].items():
        ours = float(np.sqrt(sum(value**2 for name, value in norms.items() if name.startswith(f"{block}."))))
        checks.append(compare(f"block_grad_norm/{block}", ours, norm, atol=0.0, rtol=norm_rtol))
    for name, norm in manifest["param_grad_norm"].items():
        checks.append(compare(f"param_grad_norm/{name}", norms.get(name, np.nan), norm, atol=1e-9, rtol=norm_rtol))
    for key in (key for key in arrays if key.startswith("grad/")):
        grad = gradients[key.removeprefix("grad/")]
        ours_array = np.full(arrays[key].shape, np.nan) if grad is None else grad.numpy()
        checks.append(compare(key, ours_array, arrays[key], atol=share * float(np.abs(arrays[key]).max())))
    return checks


def _check_frozen(manifest: Mapping[str, Any], learning: list[Any], gradients: Mapping[str, Tensor | None]) -> Check:
    """Counts the parameters whose frozen or idle state differs from the published one."""
    still = {name for name, grad in gradients.items() if grad is None and name.startswith("visual.")}
    published = {*manifest["frozen_parameters"], *manifest["parameters_with_no_gradient"]}
    assert len(learning) == sum(grad is not None for grad in gradients.values())
    return Check(key="parameters without gradient", difference=float(len(still ^ published)), tolerance=0.0)
