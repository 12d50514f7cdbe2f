"""A detector that answers any list of names, ours or somebody else's, opened by one function."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.devices import pick_device
from clipself.backbones.examples import embed_examples
from clipself.backbones.memory import ReadMemory
from clipself.backbones.text import make_vocabulary
from clipself.data.detection import stack_padded
from clipself.data.images import Examples, Picture, list_pictures, read_image
from clipself.detection.checkpoint import load_detector
from clipself.detection.protocol import DetectorModel, Found, NamedDetector, Proposals
from clipself.engine.fields import kinds_of
from clipself.structures import Detections
from clipself.text.names import class_names

MASK_THRESHOLD: Final = 0.5


class Detector:
    """Pictures and names in, boxes out.

    Three lines::

        detector = Detector.from_checkpoint("runs/detector")
        (found,) = detector.predict(["street.jpg"], names=["a bicycle", "traffic light"])
        [(one.name, one.score, one.box) for one in found.only("a bicycle")]

    Args:
        model: A trained detector.
    """

    def __init__(self, model: DetectorModel) -> None:
        module: Any = model
        self.model: DetectorModel = module.eval()
        self.trained_names: Sequence[str] = list(model.vocabulary.base)
        self.framing = model.framing()
        self._memory: ReadMemory | None = None
        self._set: tuple[Image.Image, Tensor, list[tuple[int, int]], float] | None = None

    @classmethod
    def from_checkpoint(
        cls, folder: str | Path = "clipself-mini-detector", *, clip: DenseCLIP | None = None, device: str = "auto"
    ) -> "Detector":
        """Loads the folder that `clipself detect train` wrote.

        Args:
            folder: With `detector.json` and `detector.safetensors`; the packaged one if not given.
            clip: The backbone where it is loaded already.
            device: cpu, cuda, mps, or auto for the best there is.

        Raises:
            FileNotFoundError: There is no detector in the folder, or its backbone has moved.
            ValueError: The weights or the backbone are not those it was trained with.
        """
        where = str(pick_device(device))
        return cls(load_detector(folder, clip=clip, device=where))

    def use(self, names: Sequence[str] = (), *, examples: Examples | None = None) -> None:
        """Looks for these from now on; names that training saw are treated as base, all others as novel.

        Args:
            names: What is looked for by its name.
            examples: What is looked for by its looks, beside `names` or in place of their words: pictures of it, or
                regions of pictures, by name; see `backbones.examples.embed_examples`.

        Raises:
            ValueError: There are no names, an empty one, or one twice, or a picture cannot be read.
        """
        held = self.model.vocabulary
        names = class_names(names)
        if not examples and not held.pictured and tuple(names) == held.names:
            return
        clip, spoken = self.model.clip, self.model.settings.spoken
        rows = embed_examples(clip, examples or {})
        self.model.use(make_vocabulary(clip, names, base=self.trained_names, examples=rows, **spoken))

    @torch.no_grad()
    def set_image(self, image: Picture) -> None:
        """Takes a picture, for as many questions as there are; `detect` answers them. The image tower looks once."""
        picture = read_image(image)
        canvases, sizes, (scale,) = self._frame([picture])
        self._memory, self._set = ReadMemory(self.model.clip), (picture, canvases, sizes, scale)

    @torch.no_grad()
    def detect(self, names: Sequence[str] | None = None, *, threshold: float = 0.0) -> Detections:
        """Finds named things in the picture that was set.

        Args:
            names: What to look for; the names used last, or the examples, if not given.
            threshold: Least score, on top of the detector's own.

        Raises:
            ValueError: No picture was set, or names are missing or doubled.
        """
        if self._set is None or self._memory is None:
            raise ValueError("there is no picture to look at; call set_image first, or predict")
        if names is not None:
            self.use(names)
        picture, canvases, sizes, scale = self._set
        with self._memory:
            (found,) = self.model.detect(canvases, sizes)
        return self._in_original_pixels(found, picture, scale).above(threshold)

    def change_scoring(self, **changes: Any) -> None:
        """Replaces settings that need no training, such as `alpha` or `fusion`.

        Raises:
            ValueError: The detector has no such setting, or the value does not fit.
        """
        self.model.settings = change_settings(self.model.settings, changes)

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
            images: Paths, Pillow images or arrays; one or several.
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
            for picture, scale, found in zip(read, scales, self.model.detect(canvases, sizes), strict=True):
                detections = self._in_original_pixels(found, picture, scale)
                yield detections.above(threshold) if threshold else detections

    def propose(self, image: Picture, *, most: int | None = None) -> Proposals:
        """Class-free boxes of a picture in original pixels, best first.

        Raises:
            ValueError: This detector has no class-free proposals.
        """
        picture = read_image(image)
        canvases, sizes, (scale,) = self._frame([picture])
        (found,) = self.model.propose(canvases, sizes)
        return Proposals(boxes=_unscaled(found.boxes[:most], picture, scale), scores=found.scores[:most].cpu())

    def _in_original_pixels(self, found: Found, picture: Image.Image, scale: float) -> Detections:
        size, boxes = (picture.height, picture.width), _unscaled(found.boxes, picture, scale)
        masks = None if found.masks is None else tuple(paste_masks(found.masks.float().cpu(), boxes, size))
        return Detections(
            boxes=boxes, scores=found.scores.float().cpu(), labels=found.labels.cpu(),
            names=self.model.vocabulary.names, size=size, masks=masks,
        )  # fmt: skip

    def _frame(self, pictures: Sequence[Image.Image]) -> tuple[Tensor, list[tuple[int, int]], list[float]]:
        framed = [self.framing.test(picture) for picture in pictures]
        canvases = stack_padded([self.framing.pixels(one) for one in framed])
        sizes = [(one.image.height, one.image.width) for one in framed]
        return canvases.to(self.model.clip.device), sizes, [one.scale for one in framed]


def _unscaled(boxes: Tensor, picture: Image.Image, scale: float) -> Tensor:
    limit = torch.tensor([picture.width, picture.height] * 2, dtype=torch.float32)
    return (boxes.float().cpu() / scale).clamp(min=0).minimum(limit)


def change_settings(settings: Any, changes: Mapping[str, Any]) -> Any:
    """Settings of a detector with some replaced.

    Raises:
        ValueError: It has no such setting, or the value does not fit.
    """
    known = {field.name for field in fields(settings)}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise ValueError(f"the detector {settings.method} has no setting {unknown[0]!r} that could be changed")
    flags, kinds = {"True": True, "False": False}, kinds_of(type(settings))  # words, as a command line has them
    read = {name: flags.get(value, value) if kinds.get(name) is bool else value for name, value in changes.items()}
    return replace(settings, **read)


def _open_owl(name: str, device: str) -> NamedDetector:
    from clipself.detection.detectors.owlvit import OwlDetector

    return OwlDetector(name, device=device)


def _open_of_hub(name: str, device: str) -> NamedDetector:
    """What a checkpoint of transformers says it is; one that says nothing is taken for an OWL-ViT."""
    from clipself.detection.detectors.grounding import GroundingDetector, is_grounding

    return GroundingDetector(name, device=device) if is_grounding(name) else _open_owl(name, device)


OPENERS: Final[dict[str, Callable[[str, str], NamedDetector]]] = {"hf": _open_of_hub, "owlvit": _open_owl}
"""What may stand ahead of a colon in the name of a detector -> (name, device) -> the detector."""


def open_detector(checkpoint: str | Path, *, device: str = "auto") -> NamedDetector:
    """A detector by its name.

    Args:
        checkpoint: Folder that `detect train` wrote, or "clipself-mini-detector", which is packaged; "hf:NAME" is an
            OWL-ViT, OWLv2 or Grounding DINO of transformers' hub ("owlvit:NAME" the former).
        device: cpu, cuda, mps, or auto for the best there is.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: What is there is no detector.
    """
    kind, _, name = str(checkpoint).partition(":")
    if name and kind in OPENERS:
        return OPENERS[kind](name, device)
    return Detector.from_checkpoint(checkpoint, device=device)


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
