"""What a detector is to the trainer, the evaluator, the predictor, the checkpoint and the command line: nothing else.

A new detector is a module that does what `DetectorModel` lists, settings that extend `MethodSettings`, and a line in
`DETECTORS`. One that belongs to another library, with its own preparation of pictures, does what `NamedDetector` lists
and has a line in `OPENERS`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import EmbeddedVocabulary
from clipself.data.detection import CocoDetection
from clipself.data.images import Picture
from clipself.data.jitter import Framing
from clipself.engine.step import Step
from clipself.structures import DetectionBatch, Detections


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Detections of one image in canvas pixels, best first.

    Attributes:
        boxes: `xyxy` (N, 4).
        scores: (N,).
        labels: Index into the names (N,).
        masks: Logits of a square over each box (N, m, m); None from a detector without masks.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposals:
    """Class-free boxes of one image, best first.

    Attributes:
        boxes: `xyxy` (N, 4) in canvas pixels.
        scores: Objectness (N,) in [0, 1].
    """

    boxes: Tensor
    scores: Tensor


class DetectorModel(Protocol):
    """A module that finds named things on canvases, and learns to.

    Attributes:
        settings: What makes it what it is; those of scoring may be replaced.
        vocabulary: The names that it looks for; at first those of training.
        clip: Whose text tower speaks the names. What of it does not require gradients is not saved with the detector.
    """

    settings: Any
    vocabulary: EmbeddedVocabulary

    @property
    def clip(self) -> DenseCLIP:
        """The CLIP that it stands on."""

    def framing(self, *, scales: tuple[float, float] = (1.0, 1.0), flip: float = 0.0) -> Framing:
        """How it wants its pictures; the arguments are the jitter of training."""

    def prepare(self, data: CocoDetection) -> None:
        """Takes from the training data what its losses need, such as how frequent classes are; ahead of training."""

    def parameter_groups(self, *, weight_decay: float) -> list[dict[str, Any]]:
        """Groups of AdamW over all that learns, with "lr_scale" where a part learns at another rate."""

    def counts(self, batch: DetectionBatch) -> Mapping[str, Tensor | float]:
        """What its losses average over: summed over the step, they come back as `Step.totals`."""

    def __call__(self, batch: DetectionBatch, step: Step) -> dict[str, Tensor]:
        """Named losses, each this batch's share of the step: divided by the step's totals."""

    def detect(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Found]:
        """Finds the vocabulary's names; `sizes` are height and width of each image's own pixels."""

    def propose(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Proposals]:
        """Class-free boxes; a detector without any raises a ValueError that says so."""

    def use(self, vocabulary: EmbeddedVocabulary) -> None:
        """Looks for other names from now on."""


@runtime_checkable
class CachesFeatures(Protocol):
    """A detector whose frozen part can be computed once for each image and view."""

    def cache_features(self, folder: Path, *, identity: str, rows: int) -> None:
        """Keeps the frozen features on disk from now on.

        Args:
            folder: Of the cache.
            identity: Tells pictures, views, canvas and number format from others.
            rows: Images times views.
        """

    def flush_features(self) -> None:
        """Writes what is still in memory; nothing where nothing is kept."""


class NamedDetector(Protocol):
    """Anything that finds named things in pictures: ours, or a wrapper of somebody else's.

    Attributes:
        trained_names: Names that it has seen boxes of; empty where it does not tell.
    """

    trained_names: Sequence[str]

    def use(self, names: Sequence[str]) -> None:
        """Looks for these names from now on, or refuses them in words."""

    def stream(
        self,
        images: Sequence[Picture] | Picture,
        names: Sequence[str] | None = None,
        *,
        threshold: float = 0.0,
        batch_size: int = 1,
    ) -> Iterator[Detections]:
        """One result an image, one image after another."""

    def propose(self, image: Picture, *, most: int | None = None) -> Proposals:
        """Class-free boxes of a picture in original pixels, best first; without any, a ValueError says so."""

    def change_scoring(self, **changes: Any) -> None:
        """Replaces settings of scoring, or refuses in words."""


def learned_state(detector: Any, clip: DenseCLIP) -> dict[str, Tensor]:
    """Weights and running statistics of a detector without what is frozen of its CLIP, by object and not by name."""
    frozen = {id(tensor) for tensor in clip.parameters() if not tensor.requires_grad} | set(map(id, clip.buffers()))
    state: dict[str, Tensor] = detector.state_dict(keep_vars=True)
    return {name: tensor.detach() for name, tensor in state.items() if id(tensor) not in frozen}


def running_statistics(detector: Any, clip: DenseCLIP) -> list[Tensor]:
    """What a detector carries along without learning it, such as running means."""
    frozen = set(map(id, clip.buffers()))
    return [buffer for buffer in detector.buffers() if id(buffer) not in frozen]
