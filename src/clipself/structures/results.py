"""What models say of pictures and names; each checks its own shapes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, SupportsFloat, overload

import torch
from torch import Tensor

from clipself.ops.masks import boxes_around
from clipself.ops.run_lengths import encode_mask


@dataclass(frozen=True, kw_only=True, slots=True)
class Detection:
    """One found thing.

    Attributes:
        box: `xyxy` in pixels of the original image.
        score: In [0, 1].
        name: What it was found as.
        mask: Run lengths as COCO writes them; None where the detector has no mask head.
    """

    box: tuple[float, float, float, float]
    score: float
    name: str
    mask: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Detections:
    """What was found in one image, best first.

    Attributes:
        boxes: `xyxy` (N, 4) in pixels of the original image.
        scores: In [0, 1], (N,).
        labels: Index into `names` (N,).
        names: The classes that were asked for.
        size: Height and width of the original image.
        masks: Run lengths of each mask as COCO writes them; None where the detector has no mask head.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    names: tuple[str, ...]
    size: tuple[int, int]
    masks: tuple[dict[str, Any], ...] | None = field(default=None)

    def __post_init__(self) -> None:
        counts = {len(self.boxes), len(self.scores), len(self.labels)}
        if self.masks is not None:
            counts.add(len(self.masks))
        if len(counts) != 1:
            raise ValueError(f"boxes, scores, labels and masks count {sorted(counts)} detections, expected one number")

    @classmethod
    def from_masks(
        cls,
        masks: Iterable[Tensor],
        *,
        labels: Sequence[int],
        scores: Sequence[float],
        names: Sequence[str],
        size: tuple[int, int],
    ) -> "Detections":
        """Masks as run lengths with their tight boxes; one mask after another is in memory.

        Args:
            masks: Booleans (H, W) of the original image.
            labels: Index into `names` of each.
            scores: In [0, 1].
            names: The classes that were asked for.
            size: Height and width of the original image.
        """
        held = [(boxes_around(mask[None].cpu()), encode_mask(mask.cpu().numpy())) for mask in masks]
        return cls(
            boxes=torch.cat([torch.zeros(0, 4), *(box for box, _ in held)]), masks=tuple(mask for _, mask in held),
            scores=torch.tensor(scores, dtype=torch.float64), labels=torch.tensor(labels, dtype=torch.long),
            names=tuple(names), size=size,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[Detection]:
        return (self[row] for row in range(len(self)))

    @overload
    def __getitem__(self, which: int) -> Detection: ...

    @overload
    def __getitem__(self, which: slice | Sequence[int] | Tensor) -> "Detections": ...

    def __getitem__(self, which: int | slice | Sequence[int] | Tensor) -> "Detection | Detections":
        """One of them by its place, or some by a slice, places or a mask of truth values."""
        if isinstance(which, int) or getattr(which, "ndim", None) == 0:  # what argmax gives is one place too
            row = range(len(self))[which]  # type: ignore[index]
            box: Any = tuple(self.boxes[row].tolist())
            name, mask = self.names[int(self.labels[row])], None if self.masks is None else self.masks[row]
            return Detection(box=box, score=float(self.scores[row]), name=name, mask=mask)
        if not isinstance(which, slice):
            which = torch.as_tensor(which)
            which = which if which.numel() else which.long()  # an empty list is of floats to torch
        kept = torch.arange(len(self))[which]
        masks = None if self.masks is None else tuple(self.masks[row] for row in kept.tolist())
        return replace(self, boxes=self.boxes[kept], scores=self.scores[kept], labels=self.labels[kept], masks=masks)

    def above(self, threshold: float) -> "Detections":
        """Those that score at least `threshold`.

        Raises:
            ValueError: It is no score, which lies in [0, 1].
        """
        if isinstance(threshold, str) or not isinstance(threshold, SupportsFloat) or not float(threshold) <= 1:
            raise ValueError(f"threshold={threshold!r:.60} is no score; scores lie in [0, 1]")
        return self[self.scores >= threshold]

    def only(self, *names: str) -> "Detections":
        """Those of these names.

        Raises:
            ValueError: A name was not asked for.
        """
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise ValueError(f"{unknown[0]!r} was not asked for; the names are {', '.join(self.names[:10])}")
        wanted = [self.names.index(name) for name in names]
        return self[torch.isin(self.labels, torch.tensor(wanted, dtype=self.labels.dtype))]


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRows:
    """Names as embeddings; a class may have several.

    Attributes:
        rows_SD: One row a name, the names of a class one after another.
        counts: How many names each class has.
    """

    rows_SD: Tensor
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.rows_SD.ndim != 2 or sum(self.counts) != len(self.rows_SD) or not self.counts or min(self.counts) < 1:
            raise ValueError(
                f"{tuple(self.rows_SD.shape)} rows do not hold the names of {len(self.counts)} classes "
                f"({sum(self.counts)} names); each class needs at least one row of the joint space"
            )

    @property
    def starts(self) -> list[int]:
        """The row of each class's first name."""
        return list(accumulate(self.counts[:-1], initial=0))

    def to(self, device: torch.device | str) -> "TextRows":
        """The same rows on another device."""
        return TextRows(rows_SD=self.rows_SD.to(device), counts=self.counts)


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticSegment:
    """One segment of a panoptic map.

    Attributes:
        id: Value of its pixels, from 1; 0 is void.
        label: Index into the vocabulary.
        is_thing: Things True, stuff False.
        score: Probability of the class; of the first mask where stuff was merged.
    """

    id: int
    label: int
    is_thing: bool
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Panoptic:
    """A picture of which every pixel belongs to one segment or to none.

    Attributes:
        ids_HW: Segment id of every pixel, int32; 0 is void.
        segments: What the ids are.
        names: The classes that were asked for.
    """

    ids_HW: Tensor
    segments: tuple[PanopticSegment, ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        ids = [segment.id for segment in self.segments]
        if self.ids_HW.ndim != 2 or len(set(ids)) < len(ids) or min(ids, default=1) < 1:
            raise ValueError(
                f"a map {tuple(self.ids_HW.shape)} with the segment ids {ids[:8]}; expected (H, W) and ids of their "
                "own from 1 on, since 0 is void"
            )

    def __len__(self) -> int:
        return len(self.segments)

    def mask(self, segment: PanopticSegment) -> Tensor:
        """The pixels of a segment (H, W), boolean."""
        mask_HW: Tensor = self.ids_HW == segment.id
        return mask_HW


@dataclass(frozen=True, kw_only=True, slots=True)
class Segmentation:
    """A class for every pixel of a picture.

    Attributes:
        labels_HW: Index into the names.
        names: Class names.
        scores_HW: How strongly each pixel is of its class, by the measure of the segmenter; None where nobody says.
    """

    labels_HW: Tensor
    names: tuple[str, ...]
    scores_HW: Tensor | None = None

    def __post_init__(self) -> None:
        if self.labels_HW.ndim != 2 or (self.scores_HW is not None and self.scores_HW.shape != self.labels_HW.shape):
            held = None if self.scores_HW is None else tuple(self.scores_HW.shape)
            raise ValueError(
                f"labels {tuple(self.labels_HW.shape)} and scores {held} do not belong together; expected (H, W) both"
            )
        top = int(self.labels_HW.max()) if self.labels_HW.numel() else 0
        if top >= len(self.names):
            raise ValueError(f"label {top} is outside the {len(self.names)} names")

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def classes(self) -> list[int]:
        """Classes that occur, those of most pixels first."""
        counts = self.labels_HW.flatten().bincount(minlength=len(self.names))
        return [index for index in counts.argsort(descending=True, stable=True).tolist() if counts[index]]

    def share(self, index: int) -> float:
        """Part of the pixels that a class has, in [0, 1]."""
        return float((self.labels_HW == index).double().mean())

    def mask(self, index: int) -> Tensor:
        """Pixels (H, W) of a class."""
        return self.labels_HW == index

    def score(self, index: int) -> float:
        """Mean score over the pixels of a class; 1 where nobody says."""
        return 1.0 if self.scores_HW is None else float(self.scores_HW[self.mask(index)].float().mean())
