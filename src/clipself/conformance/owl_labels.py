"""`owl_labels`: texts, forbidden labels, prompts, query sets, mosaics and merged instances."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from clipself.conformance.check import Check, compare, compare_told
from clipself.conformance.dense_models import Arrays
from clipself.data.mosaic import join_negatives, lay_tiles, move_to_tile
from clipself.detection.detectors.owl.queries import make_queries, merge_instances
from clipself.text.canonical import canonical, is_forbidden, prompted, training_templates


def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Compares every section: texts by equality, mosaics by number."""
    checks = []
    for key, section in manifest.items():
        if key in SECTIONS:
            checks += SECTIONS[key](section, manifest, arrays)
    return checks


def _texts(section: Mapping[str, Any], manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    return [_same("canonical", map(canonical, section["given"]), section["expected"])]


def _forbidden(section: Mapping[str, Any], manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    return [_same("forbidden", map(is_forbidden, section["given"]), section["expected"])]


def _prompts(section: Mapping[str, Any], manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    ours = [prompted(text, template) for text, template in section["given"]]
    return [
        _same("prompts", ours, section["expected"]),
        compare("training_templates", len(training_templates()), section["training_templates"], atol=0.0),
    ]


def _query_sets(section: Iterable[Mapping[str, Any]], manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    checks = []
    for place, case in enumerate(section):
        made = make_queries(case["inst"], case["neg"], most=case["maxq"])
        checks += [
            _same(f"queries_{place}", made.queries, case["queries"]),
            _same(f"labels_{place}", map(list, made.labels), case["labels"]),
            _same(f"multi_hot_{place}", made.multi_hot_MQ.int().tolist(), case["multi_hot"]),
        ]
    return checks


def _mosaic(section: Mapping[str, Any], manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Boxes are y0 x0 y1 x1 there, in shares; instances of padding are -1."""
    tiles, count = torch.from_numpy(arrays["tiles"]), len(arrays["tiles"])
    boxes: list[Tensor] = []
    ids: list[int] = []
    for place, (held, numbers) in enumerate(zip(arrays["tile_boxes"], arrays["tile_ids"], strict=True)):
        real = numbers >= 0
        turned = torch.from_numpy(held[real])[:, [1, 0, 3, 2]]
        boxes.append(move_to_tile(turned, place, tiles=count)[:, [1, 0, 3, 2]] / section["size"])
        ids += numbers[real].tolist()
    negatives = join_negatives(section["negative_text_in"], section["instance_text"])
    laid = lay_tiles([tile.permute(2, 0, 1) for tile in tiles]).permute(1, 2, 0)
    return [
        compare_told(manifest, "mosaic", laid.numpy(), arrays["mosaic"], default=1e-6),
        compare_told(manifest, "mosaic_boxes", torch.cat(boxes).numpy(), arrays["mosaic_boxes"], default=1e-6),
        compare("mosaic_ids", np.asarray(ids), arrays["mosaic_ids"], atol=0.0),
        _same("mosaic_negatives", negatives, section["negative_text"]),
    ]


def _merge(section: Mapping[str, Any], manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Which of two boxes is kept is chance: labels and their number are compared, each row as a set."""
    real = [row for row, labels in enumerate(section["labels"]) if any(labels)]
    boxes = torch.tensor(section["boxes"], dtype=torch.float32)[real]
    given = [[text for text in section["labels"][row] if text] for row in real]
    left, held = merge_instances(
        boxes, given, threshold=section["iou_threshold"], generator=torch.Generator().manual_seed(0)
    )
    wanted = [sorted(text for text in row if text) for row in section["labels_after"]]
    return [
        _same("merged_labels", sorted(map(sorted, held)), sorted(row for row in wanted if row)),
        compare("merged_boxes", len(left), section["boxes_after_rows"], atol=0.0),
    ]


def _same(key: str, ours: Iterable[Any], theirs: Iterable[Any]) -> Check:
    """How many of two lists differ; lists of different lengths differ by more than all."""
    left, right = list(ours), list(theirs)
    differing = sum(one != other for one, other in zip(left, right, strict=False))
    return compare(key, differing + 1e6 * abs(len(left) - len(right)), 0.0, atol=0.0)


Section = Callable[[Any, Mapping[str, Any], Arrays], list[Check]]

SECTIONS: Final[Mapping[str, Section]] = {
    "canonical": _texts,
    "forbidden": _forbidden,
    "prompts": _prompts,
    "query_sets": _query_sets,
    "mosaic": _mosaic,
    "merge": _merge,
}
"""Section of a manifest -> how it is checked."""
