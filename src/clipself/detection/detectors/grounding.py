"""Grounding DINO through transformers, behind the same interface as our detectors."""

from collections.abc import Iterator, Sequence
from typing import Final

import torch
from PIL import Image
from torch import Tensor

from clipself.data.images import Picture, list_pictures, read_image
from clipself.detection.detectors.hub import HubDetector
from clipself.structures import Detections
from clipself.text.templates import spoken_name

MOST_TOKENS: Final = 200
"""Tokens of a text; names that make more are asked for in several passes."""


def is_grounding(name: str) -> bool:
    """Whether a checkpoint of transformers is of this kind; False where it cannot be told."""
    try:
        from transformers import AutoConfig

        return str(AutoConfig.from_pretrained(name).model_type) in ("grounding-dino", "mm-grounding-dino")
    except (ImportError, OSError, ValueError):  # whoever opens it says what is wrong
        return False


class GroundingDetector(HubDetector):
    """A detector that reads the names as one text, and scores each by the best of its tokens, as released.

    Source: Grounding DINO (arXiv:2303.05499), released weights.

    The names stand in one text, "cat. hot dog.", so that a name's score depends on the others beside it.

    Args:
        name: A transformers checkpoint, such as "IDEA-Research/grounding-dino-tiny", or a folder.
        device: cpu, cuda, mps, or auto.
        model: A loaded model instead, with its `processor`.
        processor: Of that model, with a fast tokenizer.

    Raises:
        ImportError: transformers is not installed.
    """

    kind = "Grounding DINO"
    extra = "transformers"

    def use(self, names: Sequence[str]) -> None:
        """Looks for these names from now on.

        Raises:
            ValueError: There are none, or one is too long for a text.
        """
        texts = [(text, self._tokens_of(text, spans)) for text, spans in self._group(names)]
        super().use(names)
        self._texts = texts

    @torch.no_grad()
    def stream(
        self,
        images: Sequence[Picture] | Picture,
        names: Sequence[str] | None = None,
        *,
        threshold: float = 0.0,
        batch_size: int = 1,
        most: int = 100,
    ) -> Iterator[Detections]:
        """One picture after another; the best `most` boxes of each, by their best name."""
        del batch_size
        self.use(self.names if names is None else names)
        for given in list_pictures(images):
            picture = read_image(given)
            found = [self._find(picture, text, tokens) for text, tokens in self._texts]
            scores_QK = torch.cat([_across(scores, place, found) for place, (scores, _) in enumerate(found)])
            boxes = torch.cat([boxes for _, boxes in found])
            scores_Q, labels_Q = scores_QK.max(-1)
            best = scores_Q.topk(min(most, len(scores_Q))).indices
            yield Detections(
                boxes=boxes[best], scores=scores_Q[best], labels=labels_Q[best], names=self.names,
                size=(picture.height, picture.width),
            ).above(threshold)  # fmt: skip

    def _group(self, names: Sequence[str]) -> list[tuple[str, list[tuple[int, int]]]]:
        """Texts of some names each, with the first and one past the last character of each name."""
        groups: list[tuple[str, list[tuple[int, int]]]] = []
        used = MOST_TOKENS + 1
        for name in names:
            spoken = spoken_name(name).lower()
            length = len(self.processor.tokenizer(f"{spoken}.")["input_ids"])
            if length > MOST_TOKENS:
                raise ValueError(f"the name {name!r:.60} makes {length} tokens, {MOST_TOKENS} are the most")
            if used + length > MOST_TOKENS:
                groups.append(("", []))
                used = 0
            text, spans = groups[-1]
            start = len(text) + bool(text)
            joined = f"{text} {spoken}." if text else f"{spoken}."
            groups[-1] = (joined, [*spans, (start, start + len(spoken))])
            used += length
        return groups

    def _tokens_of(self, text: str, spans: Sequence[tuple[int, int]]) -> list[list[int]]:
        """Of each name of a text its tokens."""
        offsets = self.processor.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        return [
            [token for token, (first, last) in enumerate(offsets) if first < end and last > start]
            for start, end in spans
        ]

    def _find(self, picture: Image.Image, text: str, tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Scores (Q, k) of the names of one text, and boxes (Q, 4) in pixels."""
        inputs = self.processor(images=picture, text=text, return_tensors="pt").to(self.model.device)
        outputs = self.model(**inputs)
        chances_QT = outputs.logits[0].float().sigmoid().cpu()
        scores_Qk = torch.stack([chances_QT[:, some].amax(-1) for some in tokens], dim=1)
        centre, half = (part.float().cpu() for part in outputs.pred_boxes[0].tensor_split([2], dim=-1))
        sides = torch.tensor([picture.width, picture.height] * 2)
        boxes = torch.cat([centre - half / 2, centre + half / 2], dim=-1) * sides
        return scores_Qk, boxes.clamp(min=0).minimum(sides)


def _across(scores_Qk: Tensor, place: int, found: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores of one text's names among those of all texts; the names of others score 0."""
    widths = [scores.shape[1] for scores, _ in found]
    wide = scores_Qk.new_zeros(len(scores_Qk), sum(widths))
    start = sum(widths[:place])
    wide[:, start : start + widths[place]] = scores_Qk
    return wide
