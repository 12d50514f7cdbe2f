"""SAN as a graph: masks, their classes by the names, a class for every pixel."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.losses.mask_classification import MaskPredictions
from clipself.segmentation.san.model import San, semantic_scores
from clipself.segmentation.san.segmenter import SanSegmenter
from clipself.segmentation.segmenter import LONGEST, SIZE_DIVISOR
from clipself.workflows.exporting.dense_map import any_size, prepared
from clipself.workflows.exporting.graph import Axis, Graph, Rows, to_array


class SanGraph(nn.Module):
    """See `SanSegmenter`; pictures fill whole canvases here.

    Args:
        model: In evaluation mode.
    """

    def __init__(self, model: San) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Names every pixel.

        Args:
            images: Normalised images (B, 3, H, W), sides multiples of 32.
            texts: Unit rows, one a name (K, D).

        Returns:
            Labels (B, H, W), and the score of each (B, H, W).
        """
        (found,) = self.model.find_masks(images)
        logits_BQK = self.model.classify(found.masks_BQD, texts)
        predictions = MaskPredictions(logits_BQK=logits_BQK, masks_BQYX=found.masks_BQYX)
        size = (images.shape[2], images.shape[3])
        scores, labels = semantic_scores(predictions, size=size).max(1)
        return labels, scores


def san_graph(segmenter: SanSegmenter) -> Graph:
    """A trained SAN.

    Args:
        segmenter: Of `segmenter_of`.

    Raises:
        ValueError: The grid of its side network is not twice that of CLIP.
    """
    model = segmenter.model
    side, patch = model.settings.side, model.clip.patch_size
    assert side is not None
    if side.patch != patch or model.clip_scale != 0.5:
        raise ValueError(
            f"this SAN looks at {model.clip_scale:g} of the picture in patches of {patch}, beside patches of "
            f"{side.patch}: it pools attention biases to cells of unlike sizes, which a graph of any size does not "
            "hold; one that looks at half of it in equal patches can be exported"
        )

    def embed(names: Sequence[str]) -> Rows:
        return {"texts": to_array(model.embed_names(names))}

    step = max(SIZE_DIVISOR, 2 * patch)
    texts = F.normalize(torch.randn(3, model.clip.embed_dim, generator=torch.Generator().manual_seed(0)), dim=1)
    return Graph(
        kind="segmenter", module=SanGraph(model).eval(),
        inputs={"images": torch.zeros(2, 3, 3 * step, 5 * step), "texts": texts},
        free={"images": any_size(step), "texts": {0: Axis("names")}}, outputs=("labels", "scores"),
        prepare=prepared(
            model.clip.image_mean, model.clip.image_std, side="shortest", size=segmenter.shortest, most=LONGEST,
            multiple=step, resample="bilinear",
        ),
        embed=embed,
    )  # fmt: skip
