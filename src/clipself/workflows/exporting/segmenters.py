"""A CLIP that segments without training as a graph: one pass over the whole picture, a class for every pixel."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import embed_names
from clipself.segmentation.segmenter import LONGEST
from clipself.segmentation.training_free.settings import TrainingFreeSettings
from clipself.workflows.exporting.dense_map import any_size, check_readout, example_images, prepared
from clipself.workflows.exporting.graph import Axis, Graph, Rows, to_array


class TrainingFreeGraph(nn.Module):
    """Cosines of the dense map with the names, resized to the pixels; see `TrainingFree`, with one window.

    Args:
        clip: The model.
        readout: How its last block is read.
    """

    def __init__(self, clip: DenseCLIP, readout: str) -> None:
        super().__init__()
        self.clip, self.readout = clip, readout

    def forward(self, images: Tensor, texts: Tensor, class_of: Tensor) -> tuple[Tensor, Tensor]:
        """Names every pixel.

        Args:
            images: Normalised images (B, 3, H, W).
            texts: Unit rows, one a synonym (S, D).
            class_of: The name that each row belongs to (S,).

        Returns:
            Labels (B, H, W), and the cosine of each (B, H, W).
        """
        dense_BDYX = self.clip.dense_map(images, readout=self.readout)
        cosine_BSYX = torch.einsum("bdyx,sd->bsyx", dense_BDYX, texts)
        scores_BHW, rows_BHW = resize(cosine_BSYX, images).max(1)
        return class_of[rows_BHW], scores_BHW


def resize(maps_BKyx: Tensor, images_B3HW: Tensor) -> Tensor:
    """Bilinear, corners not aligned, to the size of the images."""
    return F.interpolate(maps_BKyx, size=images_B3HW.shape[-2:], mode="bilinear", align_corners=False)


def training_free_graph(clip: DenseCLIP, *, readout: str, templates: str) -> Graph:
    """A CLIP as a segmenter.

    Args:
        clip: The model.
        readout: How its last block is read.
        templates: Sentences around the names.

    Raises:
        ValueError: The readout needs more than the images of one graph.
    """
    check_readout(readout)

    def embed(names: Sequence[str]) -> Rows:
        text = embed_names(clip, names, templates=templates, wording="as-written")
        class_of = [place for place, count in enumerate(text.counts) for _ in range(count)]
        return {"texts": to_array(text.rows_SD), "class_of": to_array(torch.tensor(class_of))}

    generator = torch.Generator().manual_seed(0)
    texts = F.normalize(torch.randn(4, clip.embed_dim, generator=generator), dim=1)
    return Graph(
        kind="segmenter", module=TrainingFreeGraph(clip, readout).eval(),
        inputs={"images": example_images(clip), "texts": texts, "class_of": torch.tensor([0, 1, 1, 2])},
        free={
            "images": any_size(clip.patch_size), "texts": {0: Axis("texts")},
            "class_of": {0: Axis("texts")},
        },
        outputs=("labels", "scores"), embed=embed, about={"readout": readout},
        prepare=prepared(
            clip.image_mean, clip.image_std, side="shortest", size=TrainingFreeSettings().shortest, most=LONGEST,
            multiple=clip.patch_size, resample="bicubic",
        ),
    )  # fmt: skip
