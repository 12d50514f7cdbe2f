"""The dense map of a CLIP as a graph: images in, embeddings of patches out, at any size."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.readouts import find_readout
from clipself.backbones.text import embed_names
from clipself.workflows.exporting.graph import Axis, Graph, Rows, to_array


class DenseMap(nn.Module):
    """Normalised images (B, 3, H, W) -> dense map (B, D, Y, X) of unit length.

    Args:
        clip: The model.
        readout: How its last block is read; see `DenseCLIP.read`.
    """

    def __init__(self, clip: DenseCLIP, readout: str) -> None:
        super().__init__()
        self.clip, self.readout = clip, readout

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """The map alone."""
        return (self.clip.dense_map(images, readout=self.readout),)


def dense_map_graph(clip: DenseCLIP, *, readout: str, templates: str, size: int) -> Graph:
    """A CLIP's dense map; names are compared with it by a product, outside the graph.

    Args:
        clip: The model.
        readout: How its last block is read.
        templates: Sentences around names.
        size: Longest side of pictures that it is best read at, in pixels.

    Raises:
        ValueError: The readout needs more than the images of one graph.
    """
    check_readout(readout)
    return Graph(
        kind="dense map", module=DenseMap(clip, readout).eval(), inputs={"images": example_images(clip)},
        free={"images": any_size(clip.patch_size)}, outputs=("dense_map",),
        prepare=prepared(
            clip.image_mean, clip.image_std, side="longest", size=size, multiple=clip.patch_size, resample="bicubic"
        ),
        embed=text_rows(clip, templates=templates), about={"readout": readout, "embed_dim": clip.embed_dim},
    )  # fmt: skip


def check_readout(readout: str) -> None:
    """Refuses readouts that cannot be a graph of one picture.

    Raises:
        ValueError: It is one of them; the message says why.
    """
    found = find_readout(readout)
    if found.takes_guide:
        raise ValueError(
            f"readout {readout!r} is guided by a second model or by regions that are grown in a loop, which a graph "
            "does not hold; export 'value', or another that needs the CLIP alone"
        )
    if found.window:
        raise ValueError(
            f"readout {readout!r} reads pictures in windows whose number follows from their size, which a graph cannot "
            "count; export it without window=, and cut the pictures outside"
        )


def example_images(clip: DenseCLIP) -> Tensor:
    """Two images of unlike sides, so that no axis is taken for another or for a constant."""
    patch = clip.patch_size
    return torch.zeros(2, 3, 5 * patch, 7 * patch)


def any_size(multiple: int, *, least: int = 1) -> dict[int, Axis]:
    """Axes of images (B, 3, H, W) of any number and size."""
    return {0: Axis("batch"), 2: Axis("rows", multiple, least), 3: Axis("cols", multiple, least)}


def prepared(
    mean: Sequence[float], std: Sequence[float], *, side: str, size: int, resample: str, multiple: int = 1,
    most: int | None = None, canvas: int | None = None, fill: float | None = None, antialias: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """How a picture becomes the input `images`, for the card of the graph; `run_graph.py` does it.

    Args:
        mean: RGB, of pixels in [0, 1].
        std: RGB.
        side: "longest" or "shortest": the one that is brought to `size`.
        size: In pixels.
        resample: Pillow's filter: "bilinear" or "bicubic".
        multiple: What both sides are rounded to.
        most: Longest side at most.
        canvas: Side of the square that is filled up right and below.
        fill: By this grey in [0, 1], or by zeros after the normalisation.
        antialias: Whether pixels are averaged where a picture becomes smaller, as Pillow's `resize` does.
    """
    return {
        "mean": list(mean), "std": list(std), "side": side, "size": size, "most": most, "multiple": multiple,
        "resample": resample, "canvas": canvas, "fill": fill, "antialias": antialias,
    }  # fmt: skip


def text_rows(clip: DenseCLIP, *, templates: str, wording: str = "as-written") -> Any:
    """Names -> {"texts": unit rows (K, D)}, one a name; None for a CLIP without a text tower."""
    if clip.identity.text is None:
        return None

    def embed(names: Sequence[str]) -> Rows:
        text = embed_names(clip, names, templates=templates, wording=wording)
        return {"texts": to_array(text.rows_SD[text.starts])}

    return embed
