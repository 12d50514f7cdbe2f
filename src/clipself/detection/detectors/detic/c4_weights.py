"""What a C4 detector begins with: a ResNet of ImageNet, by Detectron2's or torchvision's names."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from torch import Tensor, nn

from clipself.backbones.strict import check_fit
from clipself.backbones.weights import read_state_dict
from clipself.detection.detectors.trunk import RANDOM

TORCHVISION: Final[tuple[tuple[str, str], ...]] = (
    (r"conv1\.", "stem.conv1."),
    (r"bn1\.", "stem.conv1.norm."),
    (r"layer(\d)\.(\d+)\.conv(\d)\.", r"res{\1}.\2.conv\3."),
    (r"layer(\d)\.(\d+)\.bn(\d)\.", r"res{\1}.\2.conv\3.norm."),
    (r"layer(\d)\.(\d+)\.downsample\.0\.", r"res{\1}.\2.shortcut."),
    (r"layer(\d)\.(\d+)\.downsample\.1\.", r"res{\1}.\2.shortcut.norm."),
)
"""Beginning of torchvision's name -> Detectron2's; stages count from 1 there and from 2 here."""

CLASSIFIERS: Final = ("fc.", "stem.fc.", "fc1000.")


def to_stage_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A ResNet's tensors by Detectron2's names; its classifier and counters are left out."""
    named = {}
    for name, value in state.items():
        name = re.sub(r"^(module\.)?(backbone\.)?(bottom_up\.)?", "", name)
        if name.startswith(CLASSIFIERS) or name.endswith("num_batches_tracked"):
            continue
        for theirs, ours in TORCHVISION:
            if re.match(theirs, name):
                name = re.sub(rf"^{theirs}", ours, name)
                name = re.sub(r"res\{(\d)\}", lambda found: f"res{int(found.group(1)) + 1}", name)
                break
        named[name] = value
    return named


def start_trunk(trunk: nn.Module, last_stage: nn.Module, weights: str | None) -> None:
    """Takes a ResNet of ImageNet for the trunk and for the stage that reads regions.

    Args:
        trunk: Stem and three stages.
        last_stage: The fourth.
        weights: A file, or "random".

    Raises:
        ValueError: There is none, or it does not fit.
        FileNotFoundError: There is no such file.
    """
    if weights is None:
        raise ValueError(
            "a ResNet whose batch norms are frozen does not learn from nothing; pass c4.trunk_weights=FILE, a ResNet "
            f"by Detectron2's or torchvision's names (--detector.c4.trunk-weights), or {RANDOM!r} if that is meant"
        )
    if weights == RANDOM:
        return
    state = to_stage_names(read_state_dict(Path(weights)))
    own = {**trunk.state_dict(), **{f"res5.{name}": value for name, value in last_stage.state_dict().items()}}
    check_fit(state, own, source=weights, advice="pass a ResNet of the depth and widths of the settings")
    first = {name: value for name, value in state.items() if not name.startswith("res5.")}
    trunk.load_state_dict(first, strict=True)
    rest = {name.removeprefix("res5."): value for name, value in state.items() if name.startswith("res5.")}
    last_stage.load_state_dict(rest, strict=True)
