"""Pictures to tensors exactly as published: resize with Pillow, pad with black, then normalise.

Source: CLIPSelf, released transforms; padding is raw zero before normalisation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from clipself.ops.boxes import normalize_boxes
from clipself.ops.pixels import standardised_planes


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocess:
    """Normalisation of one model.

    Attributes:
        mean: RGB mean for pixels in [0, 1].
        std: RGB standard deviation.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def student_image(self, image: Image.Image, side: int) -> tuple[Tensor, float]:
        """Longest side to `side`, padded right and below.

        Returns:
            Image (3, side, side), and the factor from original pixels to its pixels.
        """
        scale = min(side / image.height, side / image.width)
        return self.normalize(_letterbox(image, side, centred=False)), scale

    def teacher_crop(self, image: Image.Image, box: Sequence[float], side: int) -> Tensor:
        """Cuts a box in pixels out (corners rounded to the nearest, ties to even) and letterboxes it, centred.

        A box that rounds to nothing gives the pixel it lies in.

        Returns:
            Crop (3, side, side).
        """
        left, top, right, bottom = (round(float(value)) for value in box)
        left, top = min(left, image.width - 1), min(top, image.height - 1)
        crop = image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
        return self.normalize(_letterbox(crop, side, centred=True))

    def teacher_crops(self, image: Image.Image, boxes: Tensor, side: int) -> Tensor:
        """Crops of boxes in pixels (R, 4) -> (R, 3, side, side); see `teacher_crop`."""
        crops = [self.teacher_crop(image, box, side) for box in boxes.tolist()]
        return torch.stack(crops) if crops else torch.zeros(0, 3, side, side)

    def normalize(self, image: Image.Image) -> Tensor:
        """RGB picture -> (3, H, W) in units of the standard deviation."""
        return standardised_planes(image, mean=self.mean, std=self.std)


def boxes_on_student(boxes: Tensor, *, scale: float, side: int) -> Tensor:
    """Boxes (R, 4) in original pixels -> shares of the padded student image, float32 at every step as published."""
    return normalize_boxes(boxes.float() * scale, size=(side, side))


def _letterbox(image: Image.Image, side: int, *, centred: bool) -> Image.Image:
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (side, side))
    corner = ((side - width) // 2, (side - height) // 2) if centred else (0, 0)
    canvas.paste(resized, corner)
    return canvas
