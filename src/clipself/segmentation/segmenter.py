"""What a segmenter is: a picture in, a class for every pixel out; another vocabulary costs no second look."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

import torch
from PIL import Image
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.examples import embed_examples, typed_and_shown
from clipself.data.images import Examples, Picture, read_image
from clipself.data.semantic_training import shortest_size
from clipself.segmentation.settings import Mode
from clipself.segmentation.streamed_argmax import Decision, streamed_argmax
from clipself.structures import Segmentation

LONGEST: Final = 2560
"""Longest side that a picture is brought to, in pixels (the published value)."""
SIZE_DIVISOR: Final = 32
"""Sides of padded images are multiples of this."""
SCORES_AT_ONCE: Final = 2**26
"""Scores that are held at a time, of all pixels and some classes: 256 MiB."""
MOST_DECIDED: Final = 2**23
"""Pixels that are decided one by one; a larger picture is decided at a smaller size, far above that of any model."""

Reading = TypeVar("Reading")


@dataclass(frozen=True, kw_only=True, slots=True)
class Inference:
    """How a trained model looks at pictures; each takes what concerns it.

    Attributes:
        mode: "sliding" windows and the whole, averaged, or the "whole" in one pass, for a model that knows both.
        canvas: Side of the square that windows slide over, in pixels; in proportion to the training crop if None.
        class_cap: Most classes looked at for each view; None looks at all.
        shortest: Shortest side that pictures are brought to; that of the model's training if None.
    """

    mode: Mode = "sliding"
    canvas: int | None = None
    class_cap: int | None = None
    shortest: int | None = None


class Segmenter(Protocol):
    """Anything that names every pixel of a picture."""

    @property
    def names(self) -> tuple[str, ...]:
        """The classes, in the order of the labels."""

    def use(self, names: Sequence[str]) -> None:
        """Takes other classes; what was read of a picture stays."""

    def set_image(self, image: Picture) -> None:
        """Reads a picture, for as many questions as there are."""

    def segment(self, image: Picture | None = None) -> Segmentation:
        """Names every pixel, of this picture or of the one that was set."""


class ReadingSegmenter(ABC, Generic[Reading]):
    """A segmenter that first reads a picture, which is dear, and then compares it with the names, which is cheap.

    A subclass says how: `read`, `embed` and `compare`. One whose `shows` is a CLIP can be shown what to look for:
    `embed` finds the rows of such names in `shown`.

    Args:
        names: Class names; synonyms follow after commas.
        classes_at_once: Classes in one pass; bounds memory.
    """

    shows: DenseCLIP | None = None

    def __init__(self, names: Sequence[str], *, classes_at_once: int = 64) -> None:
        self.classes_at_once = classes_at_once
        self.shown: Mapping[str, Tensor] = {}
        self._set: tuple[tuple[int, int], Reading] | None = None
        self.use(names)

    @abstractmethod
    def embed(self, names: Sequence[str]) -> None:
        """Keeps what `compare` needs of the names."""

    @abstractmethod
    def read(self, image: Image.Image) -> Reading:
        """All that is looked at of an RGB picture, whatever the names are."""

    @abstractmethod
    def compare(self, reading: Reading, size: tuple[int, int]) -> Iterator[Tensor]:
        """Scores (k, H, W) of one group of names after another.

        Args:
            reading: Of `read`.
            size: Height and width of the result.
        """

    def decide(self, reading: Reading, size: tuple[int, int]) -> Decision:
        """One class a pixel: the best; arguments as of `compare`."""
        return streamed_argmax(self.compare(reading, size))

    @torch.no_grad()
    def use(self, names: Sequence[str] = (), *, examples: Examples | None = None) -> None:
        """Takes other classes; what was read of a picture stays.

        Args:
            names: What is named by words.
            examples: What is named by pictures of it, or by regions of pictures, beside `names` or in place of their
                words; see `backbones.examples.embed_examples`.

        Raises:
            ValueError: There are no names, they do not suit the settings, an example cannot be read, or this segmenter
                knows words alone.
        """
        if examples and self.shows is None:
            raise ValueError(f"{type(self).__name__} looks for names alone; leave the examples out")
        self.shown = embed_examples(self.shows, examples) if examples and self.shows is not None else {}
        asked = typed_and_shown(names, self.shown)
        self.embed(asked)
        self.names = asked

    @torch.no_grad()
    def set_image(self, image: Picture) -> None:
        """Reads a picture, for as many questions as there are."""
        picture = read_image(image)
        self._set = (picture.height, picture.width), self.read(picture)

    @torch.no_grad()
    def segment(self, image: Picture | None = None) -> Segmentation:
        """Names every pixel, of this picture or of the one that was set.

        Raises:
            ValueError: No picture was given or set.
        """
        if image is not None:
            self.set_image(image)
        if self._set is None:
            raise ValueError("there is no picture to segment; pass one, or call set_image first")
        size, reading = self._set
        shrink = min(1.0, (MOST_DECIDED / (size[0] * size[1])) ** 0.5)
        decided = (max(1, int(size[0] * shrink)), max(1, int(size[1] * shrink)))
        found = self.decide(reading, decided)
        labels, scores = (_enlarge(one.cpu(), size) for one in (found.labels_HW, found.scores_HW))
        return Segmentation(labels_HW=labels, scores_HW=scores, names=self.names)

    def label(self, image: Picture) -> Tensor:
        """The class of every pixel (H, W) alone."""
        return self.segment(image).labels_HW

    @torch.no_grad()
    def score(self, image: Picture) -> Iterator[Tensor]:
        """Scores (k, H, W) of one group of names after another, at the picture's own size."""
        picture = read_image(image)
        yield from self.compare(self.read(picture), (picture.height, picture.width))

    def fitting(self, size: tuple[int, int]) -> int:
        """How many maps of a size are held at a time, so that memory stays bounded."""
        return max(1, SCORES_AT_ONCE // (size[0] * size[1]))

    def group(self, size: tuple[int, int]) -> int:
        """How many classes are compared at a time."""
        return min(self.classes_at_once, self.fitting(size))


def _enlarge(map_HW: Tensor, size: tuple[int, int]) -> Tensor:
    """Repeats every cell."""
    rows, cols = (torch.arange(side) * held // side for side, held in zip(size, map_HW.shape, strict=True))
    return map_HW if tuple(map_HW.shape) == size else map_HW[rows][:, cols]


def resize_shortest(image: Image.Image, shortest: int) -> Image.Image:
    """Brings the shortest side to a length; bilinear, as the published evaluation does."""
    height, width = shortest_size((image.height, image.width), shortest, longest=LONGEST)
    return image.resize((width, height), Image.Resampling.BILINEAR)


class SegmenterModel(nn.Module):
    """What of a segmenter learns, on the CLIP that it was built on.

    Attributes:
        clip: Under this name, so that what does not learn of it is not saved.
        settings: How the model was built; complete.
    """

    clip: DenseCLIP
    settings: Any

    def normalize(self, pixels_B3HW: Tensor) -> Tensor:
        """Pixels in 0..255 -> CLIP's normalisation."""
        mean, std = (
            pixels_B3HW.new_tensor(values)[:, None, None] * 255
            for values in (self.clip.image_mean, self.clip.image_std)
        )
        return (pixels_B3HW - mean) / std
