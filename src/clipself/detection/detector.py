"""A detector that answers any list of names."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.devices import pick_device
from clipself.data.images import Picture, list_pictures, read_image
from clipself.data.jitter import letterbox
from clipself.detection.checkpoint import load_detector
from clipself.detection.detectors.two_stage.model import TwoStage
from clipself.detection.detectors.two_stage.pixels import pixels_of
from clipself.detection.detectors.two_stage.proposals_network import Proposals
from clipself.detection.vocabulary import make_vocabulary
from clipself.structures import Detections

MASK_THRESHOLD: Final = 0.5


class Detector:
    """Pictures and names in, boxes out.

    Three lines::

        detector = Detector.from_checkpoint("runs/detector")
        (found,) = detector.predict(["street.jpg"], names=["a bicycle", "traffic light"])
        found.boxes, found.scores, [found.names[label] for label in found.labels]

    Args:
        model: A trained two-stage detector.
    """

    def __init__(self, model: TwoStage) -> None:
        self.model = model.eval()
        vocabulary = model.vocabulary
        self.trained_names = [
            name for name, base in zip(vocabulary.names, vocabulary.base_K.tolist(), strict=False) if base
        ]
        self.preprocess = pixels_of(model.settings, model.backbone.clip)

    @classmethod
    def from_checkpoint(cls, folder: str | Path, *, clip: DenseCLIP | None = None, device: str = "auto") -> "Detector":
        """Loads the folder that `clipself detect train` wrote.

        Args:
            folder: With `detector.json` and `detector.safetensors`.
            clip: The backbone where it is loaded already.
            device: cpu, cuda, mps, or auto for the best there is.

        Raises:
            FileNotFoundError: There is no detector in the folder, or its backbone has moved.
            ValueError: The weights or the backbone are not those it was trained with.
        """
        where = str(pick_device(device))
        return cls(load_detector(folder, clip=clip, device=where))

    def use(self, names: Sequence[str]) -> None:
        """Looks for these names from now on; those that training saw are treated as base, all others as novel.

        Raises:
            ValueError: There are no names, an empty one, or one twice.
        """
        if tuple(names) == self.model.vocabulary.names and not isinstance(names, str):
            return
        self.model.use(
            make_vocabulary(
                self.model.backbone.clip, names, base=self.trained_names, templates=self.model.settings.templates,
            )
        )  # fmt: skip

    def predict(
        self,
        images: Sequence[Picture] | Picture,
        names: Sequence[str] | None = None,
        *,
        threshold: float = 0.0,
        batch_size: int = 1,
    ) -> list[Detections]:
        """Finds named things in pictures of any size.

        Args:
            images: PIL images or paths; one or several.
            names: What to look for; the names used last, at first those of training, if not given.
            threshold: Least score, on top of the detector's own.
            batch_size: Images at once.

        Returns:
            For each picture its detections in original pixels, best first.

        Raises:
            ValueError: Names are missing or doubled, or a picture is damaged.
        """
        return list(self.stream(images, names, threshold=threshold, batch_size=batch_size))

    def stream(
        self,
        images: Sequence[Picture] | Picture,
        names: Sequence[str] | None = None,
        *,
        threshold: float = 0.0,
        batch_size: int = 1,
    ) -> Iterator[Detections]:
        """As `predict`, one picture after another, so that memory does not grow with their number."""
        if names is not None:
            self.use(names)
        pictures = list_pictures(images)
        for start in range(0, len(pictures), batch_size):
            read = [read_image(picture) for picture in pictures[start : start + batch_size]]
            canvases, sizes, scales = self._frame(read)
            for picture, scale, (found, masks) in zip(read, scales, self.model.detect(canvases, sizes), strict=True):
                original = (picture.height, picture.width)
                limit = torch.tensor([picture.width, picture.height] * 2, dtype=torch.float32)
                boxes = (found.boxes.float().cpu() / scale).clamp(min=0).minimum(limit)
                detections = Detections(
                    boxes=boxes,
                    scores=found.scores.float().cpu(),
                    labels=found.labels.cpu(),
                    names=self.model.vocabulary.names,
                    size=original,
                    masks=None if masks is None else tuple(paste_masks(masks.float().cpu(), boxes, original)),
                )
                yield detections.above(threshold) if threshold else detections

    def propose(self, image: Picture, *, most: int | None = None) -> Proposals:
        """Class-free boxes of a picture in original pixels, best first."""
        picture = read_image(image)
        canvases, sizes, (scale,) = self._frame([picture])
        (found,) = self.model.propose(canvases, sizes)
        limit = torch.tensor([picture.width, picture.height] * 2, dtype=torch.float32)
        boxes = (found.boxes[:most].float().cpu() / scale).minimum(limit)
        return Proposals(boxes=boxes, scores=found.scores[:most].cpu())

    def _frame(self, pictures: Sequence[Image.Image]) -> tuple[Tensor, list[tuple[int, int]], list[float]]:
        side = self.model.settings.image_size
        framed = [letterbox(picture, side=side) for picture in pictures]
        canvases = torch.zeros(len(framed), 3, side, side)
        for canvas, frame in zip(canvases, framed, strict=True):
            canvas[:, : frame.image.height, : frame.image.width] = self.preprocess.normalize(frame.image)
        sizes = [(frame.image.height, frame.image.width) for frame in framed]
        return canvases.to(self.model.device), sizes, [frame.scale for frame in framed]


def paste_masks(logits_Nyx: Tensor, boxes: Tensor, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Mask logits of boxes to whole-image masks as COCO's run lengths, one at a time.

    Args:
        logits_Nyx: One square of logits a box.
        boxes: `xyxy` (N, 4) in original pixels.
        size: Height and width of the original image.
    """
    from pycocotools import mask as coco_mask

    encoded = []
    for logits_yx, box in zip(logits_Nyx, boxes.tolist(), strict=True):
        left, top = int(np.floor(box[0])), int(np.floor(box[1]))
        right, bottom = min(size[1], int(np.ceil(box[2]))), min(size[0], int(np.ceil(box[3])))
        whole = np.zeros(size, dtype=np.uint8, order="F")
        if right > left and bottom > top:
            # Centres of the pixels, as shares of the box in [-1, 1]: the box is not rounded, the mask is sampled in it.
            x = (torch.arange(left, right) + 0.5 - box[0]) / max(box[2] - box[0], 1e-6) * 2 - 1
            y = (torch.arange(top, bottom) + 0.5 - box[1]) / max(box[3] - box[1], 1e-6) * 2 - 1
            where = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None].float()
            chances = F.grid_sample(logits_yx.sigmoid()[None, None], where, align_corners=False)[0, 0]
            whole[top:bottom, left:right] = (chances >= MASK_THRESHOLD).numpy()
        row = coco_mask.encode(whole)
        encoded.append({"size": list(size), "counts": row["counts"].decode("ascii")})
    return encoded
