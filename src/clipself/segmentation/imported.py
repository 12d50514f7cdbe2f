"""Released CAT-Seg and SAN checkpoints as folders that every command of segmentation reads."""

from collections.abc import Sequence
from pathlib import Path

from clipself.backbones.export import save_clip
from clipself.backbones.loading import load_clip
from clipself.backbones.weights import read_state_dict, weights_in
from clipself.choices import pick
from clipself.segmentation.checkpoint import save_segmenter
from clipself.segmentation.segmenters import SEGMENTERS
from clipself.text.vocabulary import load_vocabulary


def import_segmenter(
    weights: str | Path,
    out: str | Path,
    *,
    method: str,
    names: Sequence[str] | None = None,
    crop: int | None = None,
    heads: int | None = None,
) -> Path:
    """Writes a released checkpoint as a folder that `load_segmenter` reads, its CLIP beside it.

    Args:
        weights: The released file.
        out: Folder to write; the CLIP goes into `clip` below it.
        method: Row of `SEGMENTERS`.
        names: Classes of its training; COCO-Stuff's 171 if not given, as published.
        crop: Side of its training crops, in pixels; the published one if not given.
        heads: Attention heads of CLIP's image tower where they are not of width 64.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file does not fit the method, or holds no text tower to embed names with.
    """
    row = pick(SEGMENTERS, method, what="segmenter")
    if row.read is None:
        raise ValueError(f"there is no released checkpoint of {method} that can be read")
    read = row.read(read_state_dict(weights_in(weights)), source=str(weights), heads=heads)
    if read.clip.identity.text is None:
        raise ValueError(f"{weights} holds no text tower, and without one no class can be named; import a whole file")
    folder = save_clip(read.clip, Path(out) / "clip", card={"from": Path(weights).name})
    clip, side = load_clip(folder), crop or row.crop
    digest = clip.weights_hash()
    model = row.build(clip, read.settings, crop=side)
    model.load_state_dict(read.state_dict(), strict=True)
    return save_segmenter(
        model.eval(), out, clip={"model": str(folder)}, digest=digest, crop=side,
        names=list(names or load_vocabulary("coco_stuff_171").names), card={"from": Path(weights).name},
    )  # fmt: skip
