"""What the frozen CLIP says of crops, cut from the canvas where the detector runs."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from clipself.backbones.activation import computation_hash
from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.loading import load_clip
from clipself.data.preprocess import Preprocess
from clipself.detection.detectors.two_stage.pixels import change_pixels
from clipself.ops.boxes import enlarge_boxes
from clipself.ops.levels import join_boxes


@torch.no_grad()
def embed_boxes(
    clip: DenseCLIP,
    images_B3HW: Tensor,
    boxes: Sequence[Tensor],
    *,
    pixels: Preprocess,
    enlarge: Sequence[float] = (1.0,),
) -> Tensor:
    """Embeds boxes as crops of CLIP's own size, stretched to a square, averaged over several enlargements.

    Source: ViLD (arXiv:2104.13921), Sec. 3.2: crops of 1x and 1.5x, their unit embeddings added and normalised.

    Args:
        clip: The frozen model.
        images_B3HW: Canvases as the detector sees them.
        boxes: For each canvas its boxes (r, 4) in canvas pixels.
        pixels: Normalisation of the canvases; CLIP's own may be another one.
        enlarge: Sides of the crops relative to the boxes.

    Returns:
        Unit embeddings (R, D): the first canvas' boxes, then the second's.
    """
    size = (int(images_B3HW.shape[2]), int(images_B3HW.shape[3]))
    own = Preprocess(mean=clip.image_mean, std=clip.image_std)
    total = images_B3HW.new_zeros(sum(map(len, boxes)), clip.embed_dim)
    if not len(total):
        return total
    for factor in enlarge:
        around = [enlarge_boxes(box, factor=factor, size=size) if factor != 1.0 else box for box in boxes]
        crops = roi_align(images_B3HW.float(), join_boxes(around), clip.image_size, 1.0, sampling_ratio=2, aligned=True)
        total = total + clip.encode_image(change_pixels(crops, pixels, own)).float()
    return F.normalize(total, dim=1)


class CropTeacher:
    """The CLIP that says what crops are: the backbone itself, or another one of the same joint space.

    A backbone that self-distillation has refined has lost what its original says of crops, so that the original teaches
    and the refined one learns. Another CLIP is loaded when a training begins and is no part of the detector.

    Args:
        own: The backbone.
        name: Model or folder of the other one; None takes the backbone.
    """

    def __init__(self, own: DenseCLIP, name: str | None) -> None:
        self.own, self.name = own, name
        self._other: DenseCLIP | None = None

    @property
    def clip(self) -> DenseCLIP:
        """Whoever teaches.

        Raises:
            ValueError: The other one has another joint space.
        """
        if self.name is None:
            return self.own
        if self._other is None:
            other = load_clip(self.name, device=self.own.device)
            if computation_hash(other, "text") != computation_hash(self.own, "text"):
                raise ValueError(
                    f"crops_by={self.name!r} has another text tower than the backbone {self.own.name}, so that its "
                    "embeddings mean something else; take the CLIP that the backbone was refined from"
                )
            self._other = other.requires_grad_(False)
        return self._other
