"""What OV-DETR's queries are asked for in training: classes that are there, and some that are not."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clipself.detection.detectors.deformable.classes import shuffled
from clipself.detection.detectors.ovdetr.crops import CropRows


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """What one picture is asked for.

    Attributes:
        classes_R: Label of each condition; -1 fills a batch up.
        rows_RD: Row of the joint space of each.
        of_text_R: Whether it is a text's, and not a crop's.
    """

    classes_R: Tensor
    rows_RD: Tensor
    of_text_R: Tensor

    def filled_to(self, count: int) -> "Conditions":
        """The same with conditions that count nowhere."""
        more = count - len(self.classes_R)
        return Conditions(
            classes_R=torch.cat([self.classes_R, self.classes_R.new_full((more,), -1)]),
            rows_RD=torch.cat([self.rows_RD, self.rows_RD[:1].expand(more, -1)]),
            of_text_R=torch.cat([self.of_text_R, self.of_text_R[:1].expand(more)]),
        )


def draw_conditions(
    present: Sequence[int],
    base: Sequence[int],
    *,
    texts_KD: Tensor,
    crops: CropRows | None,
    least: int,
    text_share: float,
    generator: torch.Generator,
) -> Conditions:
    """Fills the classes that are there up with others, and draws how each is asked for.

    Source: OV-DETR, released code; a class without crops is asked for by its text, where that code fails.

    Args:
        present: Classes that are there.
        base: Classes that training may see.
        texts_KD: Unit rows of all classes.
        crops: Rows of crops; None asks by text alone.
        least: Conditions, at least.
        text_share: Probability of a text.
        generator: Of the chance.
    """
    others = [label for label in base if label not in present]
    fill = max(0, least - len(present))
    classes = [*shuffled(present, generator), *shuffled(others, generator)[:fill]]
    rows, of_text = [], []
    for label in classes:
        by_text = bool(torch.rand((), generator=generator) < text_share)
        crop = None if by_text or crops is None else crops.draw(label, generator)
        rows.append(texts_KD[label] if crop is None else crop.to(texts_KD))
        of_text.append(crop is None)
    return Conditions(
        classes_R=torch.tensor(classes, device=texts_KD.device),
        rows_RD=torch.stack(rows).detach(),
        of_text_R=torch.tensor(of_text, device=texts_KD.device),
    )
