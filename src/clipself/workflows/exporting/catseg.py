"""CAT-Seg as a graph: its windows and the whole picture in one batch, a class for every pixel."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.ops.windows import place_windows
from clipself.segmentation.catseg.inference import CatSegInference
from clipself.segmentation.catseg.model import CatSeg
from clipself.segmentation.catseg.segmenter import CatSegSegmenter
from clipself.segmentation.segmenter import LONGEST
from clipself.workflows.exporting.dense_map import any_size, check_readout, prepared
from clipself.workflows.exporting.graph import Axis, Graph, Rows, to_array
from clipself.workflows.exporting.segmenters import resize


class CatSegGraph(nn.Module):
    """See `read_picture` and `score_reading`, which do the same view by view.

    Args:
        model: In evaluation mode.
        how: Windows or one pass.
    """

    def __init__(self, model: CatSeg, how: CatSegInference) -> None:
        super().__init__()
        self.model, self.how = model, how
        side, step = how.canvas, int(how.window * (1 - how.overlap))
        self.windows = place_windows((side, side), window=(how.window,) * 2, stride=(step, step))

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Names every pixel.

        Args:
            images: Normalised images (B, 3, H, W).
            texts: Unit rows of every name in every sentence (K, P, D).

        Returns:
            Labels (B, H, W), and the probability of each (B, H, W).
        """
        if self.how.mode == "whole":
            chances = self.aggregate(self.model.squash(images), texts).sigmoid()
        else:
            chances = self.slide(images, texts)
        scores, labels = resize(chances, images).max(1)
        return labels, scores

    def aggregate(self, squashed_B3SS: Tensor, texts: Tensor) -> Tensor:
        """Logits (B, K, y, x) of squares that CLIP sees."""
        return self.model.aggregate(self.model.read(squashed_B3SS), texts, pooling=self.how.pooling)

    def slide(self, images: Tensor, texts: Tensor) -> Tensor:
        """Probabilities on the canvas (B, K, C, C): the mean of windows and whole."""
        how, batch = self.how, images.shape[0]
        canvas = _square(images, how.canvas)
        cut = [canvas[:, :, top:bottom, left:right] for top, left, bottom, right in self.windows]
        views = self.model.squash(torch.cat([*cut, _square(images, how.window)]))
        chances = _square(self.aggregate(views, texts), how.window).sigmoid()
        each = chances.reshape(len(self.windows) + 1, batch, *chances.shape[1:])
        return (self.merge(each) + _square(each[-1], how.canvas)) / 2

    def merge(self, chances_VBKyx: Tensor) -> Tensor:
        """The mean of the windows where they overlap; see `merge_windows`."""
        side, places = self.how.canvas, self.windows
        pads = [(left, side - right, top, side - bottom) for top, left, bottom, right in places]
        total = torch.stack([F.pad(chances_VBKyx[place], pad) for place, pad in enumerate(pads)]).sum(0)
        times = torch.zeros(side, side)
        for top, left, bottom, right in places:
            times[top:bottom, left:right] += 1
        return total / times.to(total)


def _square(maps: Tensor, side: int) -> Tensor:
    return F.interpolate(maps, size=(side, side), mode="bilinear", align_corners=False)


def catseg_graph(segmenter: CatSegSegmenter) -> Graph:
    """A trained CAT-Seg with the look that its segmenter has at pictures.

    Args:
        segmenter: Of `segmenter_of`.

    Raises:
        ValueError: Its readout needs more than the images of one graph.
    """
    model, how = segmenter.model, segmenter.how
    check_readout(model.readout)
    patch = model.clip.patch_size
    sizes: Any = model.settings.aggregator

    def embed(names: Sequence[str]) -> Rows:
        with torch.no_grad():
            return {"texts": to_array(model.embed_names(names))}

    texts = torch.randn(3, sizes.prompts, model.clip.embed_dim, generator=torch.Generator().manual_seed(0))
    return Graph(
        kind="segmenter", module=CatSegGraph(model, how).eval(),
        inputs={"images": torch.zeros(2, 3, 5 * patch, 7 * patch), "texts": F.normalize(texts, dim=-1)},
        free={"images": any_size(1, least=2), "texts": {0: Axis("names")}},
        outputs=("labels", "scores"),
        prepare=prepared(
            model.clip.image_mean, model.clip.image_std, side="shortest", size=segmenter.shortest or how.canvas,
            most=LONGEST, resample="bilinear",
        ),
        embed=embed,
        about={"mode": how.mode, "canvas": how.canvas, "window": how.window, "class_cap": None},
    )  # fmt: skip
