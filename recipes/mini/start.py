"""Takes up the towers of an earlier export, or one of them, so that a changed recipe need not begin at nothing.

The joint space of this run is, up to a rotation, that of the earlier one: both hold the same names. The rotation is
found from the names' embeddings (orthogonal Procrustes) and put into the two last projections.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from phrases import JOINT
from torch import Tensor

from clipself.backbones.loading import load_clip

TOWERS = ("image", "text")
LR = 4e-4
"""Peak rate of towers that have learned before; about half of a fresh one's."""


def start_from(folder: Path, work: Path, *, towers: Sequence[str] = TOWERS) -> None:
    """Writes `image.pt` and `text.pt`, or what `towers` has of them, at step 0, unless there are such already."""
    clip = load_clip(folder)
    held = torch.load(work / "phrases.pt", weights_only=True)
    with torch.no_grad():
        theirs = clip.encode_text(held["texts"]["names"])
    rotation, agreement = rotation_between(theirs, held["vectors"]["names"].float())
    print(f"the earlier joint space, turned: mean cosine {agreement:.3f} on {len(theirs)} names")
    state = clip.clip.state_dict()
    # A linear layer's weight is (out, in), the text projection (in, out).
    image = _part(state, "visual.") | {"logit_scale": state["logit_scale"]}
    image["trunk.head.weight"] = rotation.T @ image["trunk.head.weight"]
    image["trunk.head.bias"] = image["trunk.head.bias"] @ rotation
    text = _part(state, "text.")
    text["text_projection"] = text["text_projection"] @ rotation
    for tower, part in zip(TOWERS, (image, text), strict=True):
        path = work / f"{tower}.pt"
        if tower in towers and not path.exists():
            torch.save({"model": part, "optimizer": None, "step": 0, "lr": LR}, path)


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def rotation_between(theirs_KD: Tensor, ours_KD: Tensor) -> tuple[Tensor, float]:
    """The orthogonal matrix R that brings `theirs @ R` nearest to `ours`, and the mean cosine then."""
    left, _, right = torch.linalg.svd(theirs_KD.T @ ours_KD)
    rotation = left @ right
    assert rotation.shape == (JOINT, JOINT)
    return rotation, float((theirs_KD @ rotation * ours_KD).sum(-1).mean())


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--towers", nargs="+", choices=TOWERS, default=TOWERS)
    options = parser.parse_args()
    start_from(options.start, options.work, towers=options.towers)
