"""`detic_c2_r50`, `detic_swin_small`, `detic_published_names`: Detic's OV-LVIS detector at published size."""

from collections.abc import Mapping
from typing import Any

import torch

from clipself.conformance.check import Check, compare, tolerance_of
from clipself.conformance.dense_models import Arrays
from clipself.conformance.filling import fill_manifest
from clipself.conformance.told import thin, words_of
from clipself.detection.detectors.detic.swin import SwinTrunk

SWIN = "backbone.bottom_up."


@torch.no_grad()
def run_swin(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Every stage that is handed out, and the table of relative positions."""
    config, (atol, rtol) = manifest["config"], tolerance_of(manifest, default=1e-3)
    trunk = SwinTrunk(
        embed_dim=config["embed_dim"], depths=config["depths"], heads=config["heads"], window=config["window"],
        mlp_ratio=config["mlp_ratio"], out_stages=config["out_indices"],
    ).eval()  # fmt: skip
    trunk.load_state_dict(fill_manifest(manifest, prefix=SWIN), strict=True)
    maps = trunk(torch.from_numpy(arrays["image"]))
    ours = {f"swin{stage}": level for stage, level in zip(trunk.out_stages, maps, strict=True)}
    ours["relative_position_index"] = next(
        value for name, value in trunk.named_buffers() if name.endswith("relative_position_index")
    )
    checks = []
    for key in (key for key in arrays if key != "image"):
        mine = thin(ours[key], arrays[key].shape, words_of(manifest, key)).numpy()
        exact = arrays[key].dtype.kind in "iu"
        checks.append(compare(key, mine, arrays[key], atol=0.0 if exact else atol, rtol=0.0 if exact else rtol))
    return checks
