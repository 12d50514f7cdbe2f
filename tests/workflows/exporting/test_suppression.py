"""Suppression for batches against the loop that it is."""

import torch
from torchvision.ops import box_iou

from clipself.workflows.exporting.suppression import OPERATOR, suppress


def test_the_best_of_each_group_stays_and_what_it_covers_goes() -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 40, 2, generator=generator) * 60
    boxes = torch.cat([corners, corners + 5 + torch.rand(2, 40, 2, generator=generator) * 30], dim=-1)
    scores = torch.rand(2, 3, 40, generator=generator)
    stays = suppress(boxes, scores, 0.4, 0.2)
    for image in range(2):
        for group in range(3):
            kept: list[int] = []
            for place in scores[image, group].argsort(descending=True).tolist():
                covered = kept and box_iou(boxes[image, [place]], boxes[image, kept]).max() > 0.4
                if scores[image, group, place] > 0.2 and not covered:
                    kept.append(place)
            assert stays[image, group].nonzero().flatten().tolist() == sorted(kept)
    assert torch.equal(OPERATOR(boxes, scores, 0.4, 0.2), stays)
    assert not suppress(boxes, scores, 0.4, 1.0).any()
