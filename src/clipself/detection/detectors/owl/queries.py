"""What a picture is asked: its labels, negatives beside them, and boxes that share a place made one with many labels.

Source: OWL-ViT (arXiv:2205.06230, Sec. 3.2 and appendix A1), as released.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

from clipself.text.canonical import canonical

EMPTY = ""
"""Padding: the first query of every picture, and the label that an instance has none of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuerySet:
    """The queries of one picture.

    Attributes:
        queries: The empty text, then different texts, the empty text again up to the wanted number.
        labels: For each instance the places of its labels among the queries after the first; -1 where a label is
            padding or was cut off.
        multi_hot_MQ: Which queries are right for an instance; column 0 for one without any.
    """

    queries: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]
    multi_hot_MQ: Tensor


def make_queries(instances: Sequence[Sequence[str]], negatives: Sequence[str], *, most: int) -> QuerySet:
    """The texts of the instances in the order of their first appearance, then the negatives, cut at `most`.

    Args:
        instances: For each instance its labels; the empty text pads.
        negatives: Texts that were looked for and not found.
        most: Queries, the empty one included.
    """
    texts = [canonical(text) for some in (*instances, negatives) for text in some]
    unique = list(dict.fromkeys(text for text in texts if text))[: most - 1]
    place = {text: number for number, text in enumerate(unique)}
    labels = tuple(tuple(place.get(canonical(text), -1) for text in some) for some in instances)
    multi_hot_MQ = torch.zeros(len(instances), most, dtype=torch.bool)
    for row, places in zip(multi_hot_MQ, labels, strict=True):
        row[[number + 1 for number in places if number >= 0] or [0]] = True
    return QuerySet(
        queries=(EMPTY, *unique, *([EMPTY] * (most - 1 - len(unique)))), labels=labels, multi_hot_MQ=multi_hot_MQ
    )


def fill_negatives(
    given: Sequence[int], absent: Sequence[int], frequency_K: Tensor, *, least: int, generator: torch.Generator
) -> list[int]:
    """Negatives of a picture: those that were looked for, then others by chance until there are enough.

    The release keeps a queue of the texts that it has seen and draws from it; a draw by frequency is the same in the
    long run and follows from the picture alone, whatever came before.

    Args:
        given: Labels that the data say are absent; more than `least` of them all stay.
        absent: Labels that may be drawn: of training, and not in the picture.
        frequency_K: How often each label occurs.
        least: Negatives wanted.
        generator: Source of the draw, on the CPU.
    """
    weights = torch.zeros(len(frequency_K))
    allowed = [label for label in absent if label not in set(given)]
    weights[allowed] = frequency_K[allowed].float()
    wanted = min(least - len(given), int((weights > 0).sum()))
    if wanted <= 0:
        return list(given)
    return [*given, *torch.multinomial(weights, wanted, generator=generator).tolist()]


def merge_instances(
    boxes_M4: Tensor, labels: Sequence[Sequence[str]], *, threshold: float = 0.9, generator: torch.Generator
) -> tuple[Tensor, list[list[str]]]:
    """Makes one instance of two whose boxes are nearly the same, the pair that overlaps most first, until none is left.

    Args:
        boxes_M4: `xyxy`.
        labels: For each box its labels.
        threshold: Least IoU of a pair.
        generator: Which of the two boxes is kept.

    Returns:
        The boxes that are left, and for each the labels of all that went into it, in order and each once.
    """
    boxes, held = boxes_M4.clone(), [list(dict.fromkeys(some)) for some in labels]
    while len(boxes) > 1:
        iou = box_iou(boxes, boxes).triu(diagonal=1)
        if float(iou.max()) < threshold:
            break
        first, second = divmod(int(iou.argmax()), len(boxes))
        if int(torch.randint(2, (), generator=generator)):
            boxes[first] = boxes[second]
        held[first] = list(dict.fromkeys([*held[first], *held[second]]))
        boxes = torch.cat([boxes[:second], boxes[second + 1 :]])
        del held[second]
    return boxes, held
