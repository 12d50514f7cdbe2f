"""`clipself parity`: manifests in, largest differences out."""

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clipself.conformance import (
    catseg,
    cora_detector,
    cora_losses,
    cora_names,
    cora_prompt,
    cora_train_step,
    dense_models,
    detection_cases,
    detic_c4,
    detic_cascade,
    detic_losses,
    detic_models,
    detic_names,
    detic_recipe,
    distill_step,
    fcclip_heads,
    mask_fusion,
    mask_losses,
    odise,
    odise_diffusion,
    odise_heads,
    odise_names,
    ovdetr,
    ovdetr_losses,
    ovdetr_names,
    owl,
    owl_labels,
    owl_model,
    preprocess,
    pretraining,
    promptovd,
    readouts,
    rovit,
    san,
    segmentation_metrics,
)
from clipself.conformance.check import Check
from clipself.conformance.dense_models import Arrays
from clipself.conformance.report import ParityReport, said
from clipself.conformance.watched import Watched
from clipself.data.sources import read_json

Runner = Callable[[Mapping[str, Any], Arrays], list[Check]]

SYSTEMS: Final[Mapping[str, Runner]] = {
    "CAT-Seg aggregator": catseg.run_aggregator,
    "CAT-Seg dense CLIP visual": catseg.run_dense_tower,
    "CAT-Seg v2 whole model, B/16 sizes": catseg.run_model,
    "CFM-ViT pretraining": pretraining.run_cfm,
    "CORA": cora_names.run,
    "CORA class-aware matching and localiser losses": cora_losses.run,
    "CORA detector, evaluation": cora_detector.run,
    "CORA, options thought to belong to CORA+ (first-stage proposals, single-level deformable encoder), evaluation": (
        cora_detector.run
    ),
    "CORA localiser, one training step": cora_train_step.run,
    "CORA region prompting, one training step, and CLIP-aligned labels": cora_prompt.run,
    "dense model": dense_models.run,
    "detection cases": detection_cases.run,
    "Detic": detic_names.run,
    (
        "Detic box-head losses: sigmoid and softmax classification, federated, ignored zero classes, image labels, "
        "captions"
    ): detic_losses.run_losses,
    "Detic OV-COCO: ResNet-C4, from image to detections, and the three training branches of the head": detic_c4.run,
    "Detic data and schedule numbers: two-data-set sampler, scale-jitter crop, learning rates": detic_recipe.run,
    "Detic zero-shot classifier": detic_losses.run_classifier,
    (
        "Detic OV-LVIS: CenterNet proposals, three-stage cascade with zero-shot classifiers, masks; "
        "and their training losses"
    ): detic_cascade.run,
    "Detic OV-LVIS at published size, from image to detections: every parameter of a published checkpoint": (
        detic_models.run_model
    ),
    "Detic Swin backbone (reduced)": detic_models.run_swin,
    "distillation step": distill_step.run,
    "F-ViT score fusion": detection_cases.run_fvit,
    "FC-CLIP pixel decoder + masked transformer decoder": fcclip_heads.run,
    "FC-CLIP score fusion and post-processing": mask_fusion.run,
    "ODISE: mask tokens in CLIP (MaskCLIP with mask tokens), open-vocabulary logits, score fusion, post-processing": (
        odise.run
    ),
    "ODISE diffusion backbone": odise_diffusion.run,
    "ODISE mask generator": odise_heads.run,
    "ODISE released checkpoint: trained parameters": odise_names.run,
    "mask-classification matcher and losses (Mask2Former family: SAN, ODISE, FC-CLIP)": mask_losses.run,
    "OWL-ViT labels": owl_labels.run,
    "OWL-ViT model and training gradient": owl_model.run,
    "OWL-ViT training loss": owl.run_losses,
    "multi-scale deformable attention": ovdetr.run_attention,
    "OV-DETR detector, inference": ovdetr.run_network,
    "OV-DETR matcher, losses and post-processing on given predictions": ovdetr_losses.run,
    "OV-DETR": ovdetr_names.run_names,
    "OV-DETR text prompts": ovdetr_names.run_prompts,
    "OV-DETR training step": ovdetr_losses.run_step,
    "OV-DETR, published size": ovdetr.run_published_size,
    "preprocessing": preprocess.run,
    "PromptOVD": promptovd.run,
    "RO-ViT": pretraining.run_rovit,
    "RO-ViT / DITO backbone": rovit.run_vit,
    "RO-ViT / DITO detector heads": rovit.run_heads,
    "RO-ViT / DITO scores and losses": rovit.run_scores,
    "SAN": san.run,
    "segmentation metrics": segmentation_metrics.run,
    "training-free dense CLIP readouts": readouts.run,
}
"""What a manifest can be about -> how it is checked."""

WITHOUT_ARRAYS: Final = (
    "detection cases", "CORA", "Detic", "ODISE released checkpoint: trained parameters", "OV-DETR",
    "OV-DETR text prompts",
)  # fmt: skip
"""Systems whose manifests hold all their numbers themselves."""

NO_CONSTANTS: Final = frozenset((
    "system", "format", "file", "sha256", "about", "source", "note", "params", "parameters", "published_names",
    "models", "aliases", "derived", "trainable", "buffers", "inputs", "outputs", "arrays", "keys", "npz_keys",
    "tolerance", "tolerances", "fill_rule", "versions", "torch", "timm", "open_clip", "conventions", "verified",
    "n_params", "n_parameters", "losses", "pairs", "facts_of_the_run", "largest_difference_to_float64", "mask_counts",
))  # fmt: skip
"""Parts of a manifest in which no constant of a method stands: lists of tensors, results, words, where it is from."""


def parity(manifests: Iterable[str | Path], *, quiet: bool = False) -> list[ParityReport]:
    """Checks this package against numbers of the published implementations.

    Args:
        manifests: JSON files with their arrays beside them, in the formats of `tests/golden`.
        quiet: Whether to keep the tables back.

    Returns:
        One report for each manifest; a manifest that cannot be run has its `problem` set.

    Raises:
        FileNotFoundError: A manifest is missing.
        ValueError: A manifest is not JSON, or no table.
    """
    reports = []
    for path in map(Path, manifests):
        report = check_manifest(path)
        reports.append(report)
        if not quiet:
            print(report.to_table(), flush=True)
    return reports


def check_manifest(path: Path) -> ParityReport:
    """Runs one manifest; what cannot be run is told and does not keep others from running."""
    manifest = read_json(path)
    if not isinstance(manifest, Mapping):
        raise ValueError(f"{path} holds a {type(manifest).__name__}, and a manifest is a table; see tests/golden")
    begun, system = time.perf_counter(), system_of(manifest)
    watched = Watched({name: value for name, value in manifest.items() if name not in NO_CONSTANTS})
    arrays = Watched({})
    checks: tuple[Check, ...] = ()
    problem = ""
    try:
        if system not in SYSTEMS:
            raise ValueError(f"{system!r} is not a system that this version can check; it knows {sorted(SYSTEMS)}")
        arrays = arrays if system in WITHOUT_ARRAYS else Watched(read_arrays(path, manifest))
        checks = tuple(SYSTEMS[system](watched.beside(manifest), arrays))
    except Exception as error:
        if os.environ.get("CLIPSELF_DEBUG"):
            raise
        problem = said(error)
    return ParityReport(
        manifest=str(path), system=system, checks=checks, seconds=time.perf_counter() - begun, problem=problem,
        unread=() if problem else (*watched.unseen(), *arrays.unseen()),
    )  # fmt: skip


def read_arrays(path: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays that lie beside a manifest, in the kinds of numbers that torch calculates with.

    Halves become single precision, narrow integers whole ones; what meets weights, which are single, is single too.

    Raises:
        FileNotFoundError: They are missing.
        ValueError: The manifest lists an array that is not among them.
    """
    arrays_path = path.with_name(manifest.get("file", path.with_suffix(".npz").name))
    if not arrays_path.is_file():
        raise FileNotFoundError(f"{path} needs its arrays in {arrays_path}; copy both files")
    with np.load(arrays_path, allow_pickle=False) as held:
        found = {name: held[name] for name in held.files}
    listed = manifest.get("arrays")
    missing = sorted(listed.keys() - found.keys()) if isinstance(listed, Mapping) else []
    if missing:
        raise ValueError(f"{path} lists arrays that {arrays_path.name} lacks: {missing[:5]}; copy both files anew")
    single = bool(manifest.get("params"))
    return {name: _calculable(value, single=single) for name, value in found.items()}


def _calculable(value: NDArray[Any], *, single: bool) -> NDArray[Any]:
    kind = value.dtype
    if kind.kind == "V" and kind.itemsize == 2:  # how numpy stores bfloat16, the upper half of single precision
        return (value.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if kind == np.float16 or (single and kind == np.float64):
        return value.astype(np.float32)
    return value.astype(np.int64) if kind.kind in "iu" and kind.itemsize > 1 else value


def system_of(manifest: Mapping[str, Any]) -> str:
    """What a manifest is about, told by its own keys."""
    if "system" in manifest:
        return nearest_system(str(manifest["system"]))
    if str(manifest.get("format", "")).startswith("detection_cases/"):
        return "detection cases"
    if "loss_formula" in manifest and "detect_temperature" in next(iter(manifest.get("cases", {}).values()), {}):
        return "F-ViT score fusion"
    if "grid_choices_rows_cols" in manifest:
        return "preprocessing"
    if "param_grad_norm" in manifest:
        return "distillation step"
    if "model" in manifest and "sizes" in manifest:
        return "dense model"
    return f"a manifest with keys {sorted(manifest)[:6]}"


def nearest_system(told: str) -> str:
    """The system that a manifest names; what follows its first words may tell other sizes than those known here."""
    alike = [system for system in SYSTEMS if stem_of(system) == stem_of(told)]
    return told if told in SYSTEMS else max(alike, key=lambda one: _shared(one, told), default=told)


def stem_of(system: str) -> str:
    """The words ahead of the first bracket, comma or colon."""
    return re.split(r" \(|,|:", system)[0]


def _shared(one: str, other: str) -> int:
    """How many letters two texts begin with alike."""
    return len([*takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))])
