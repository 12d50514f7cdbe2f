"""`maskcls_losses`: Hungarian costs, matches and the three losses of the Mask2Former family."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from clipself.conformance.check import Check, compare, compare_told
from clipself.conformance.dense_models import Arrays
from clipself.losses.mask_classification import (
    MaskClassificationLoss,
    MaskPredictions,
    TermWeights,
    match_costs,
)
from clipself.structures import MaskTargets

SETS = (("final", "pred", ""), ("aux", "aux", "_0"))
"""Name of a set in the matches, prefix of its arrays, suffix of its losses."""
TERMS = {"class": "loss_ce", "mask": "loss_mask", "dice": "loss_dice"}


@torch.no_grad()
def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Matches both sets at the stored points and compares costs, matches and unweighted losses."""
    config = manifest["config"]
    weights = TermWeights(
        classes=float(config["cost"]["cls"]), mask=float(config["cost"]["mask"]), dice=float(config["cost"]["dice"])
    )
    loss = MaskClassificationLoss(
        weights=weights, no_object=float(config["eos_coef"]), num_points=int(config["num_points"])
    )
    count = len(config["ground_truth_counts"])
    targets = [
        MaskTargets(
            labels_N=torch.from_numpy(arrays[f"labels_{index}"]).long(),
            masks_NHW=torch.from_numpy(arrays[f"gt_masks_{index}"]).float(),
        )
        for index in range(count)
    ]
    match_points = torch.from_numpy(arrays["matcher_points"])
    loss_points = torch.from_numpy(arrays["loss_points"])
    told = partial(compare_told, manifest, default=1e-4)
    checks = []
    for place, (name, prefix, suffix) in enumerate(one for one in SETS if f"{one[1]}_logits" in arrays):
        predictions = MaskPredictions(
            logits_BQK=torch.from_numpy(arrays[f"{prefix}_logits"]),
            masks_BQYX=torch.from_numpy(arrays[f"{prefix}_masks"]),
        )
        points = match_points[place * count : (place + 1) * count]
        matches = loss.match(predictions, targets, points_BP2=points)
        terms = loss.terms(predictions, targets, matches, points_MP2=loss_points[place])
        for index, found in enumerate(matches):
            cost = match_costs(
                predictions.logits_BQK[index], predictions.masks_BQYX[index], targets[index], points[index],
                weights=weights,
            )  # fmt: skip
            ours, theirs = np.stack([found.queries_M.numpy(), found.targets_M.numpy()]), arrays[f"match_{name}_{index}"]
            # Another matching is as right where it costs the same: masks that are equal may change places.
            spent = [float(cost[pair[0], pair[1]].sum()) for pair in (ours, np.asarray(theirs, dtype=np.int64))]
            checks.append(compare(f"match_{name}_{index}", ours.shape, theirs.shape, atol=0.0))
            checks.append(told(f"match_{name}_{index} costs", spent[0], spent[1], kind=f"cost_{index}"))
            if name == "final":
                checks.append(told(f"cost_{index}", cost.numpy(), arrays[f"cost_{index}"]))
        for term, published in TERMS.items():
            value = manifest["unweighted_losses"][f"{published}{suffix}"]
            checks.append(told(f"{published}{suffix}", terms[term].item(), value))
    return checks
