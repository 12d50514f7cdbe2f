"""OWL-ViT and OWLv2 through transformers, behind the same interface as our detectors."""

from collections.abc import Iterator, Sequence

import torch
from PIL import Image

from clipself.data.images import Picture, list_pictures, read_image
from clipself.detection.detectors.hub import HubDetector
from clipself.structures import Detections
from clipself.text.templates import spoken_name


class OwlDetector(HubDetector):
    """Source: OWL-ViT (arXiv:2205.06230), released weights; they have seen boxes of other data, so that their numbers
    do not compare with a detector trained on base classes alone.

    Args:
        name: A transformers checkpoint, such as "google/owlvit-base-patch32", or a folder.
        device: cpu, cuda, mps, or auto.
        model: A loaded model instead, with its `processor`.
        processor: Of that model.

    Raises:
        ImportError: transformers is not installed.
    """  # noqa: D205

    kind = "OWL-ViT"
    extra = "owlvit"

    def predict(
        self, images: Sequence[Picture] | Picture, names: Sequence[str], *, threshold: float = 0.0, most: int = 100
    ) -> list[Detections]:
        """As `Detector.predict`; the best `most` of an image."""
        return [found.above(threshold) for found in self.stream(images, names, most=most)]

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
        """One picture after another; a query a name, in the words that OWL-ViT was trained with."""
        del batch_size
        self.use(self.names if names is None else names)
        queries = [f"a photo of a {spoken_name(name)}" for name in self.names]
        for given in list_pictures(images):
            picture = read_image(given)
            inputs = self.processor(text=[queries], images=picture, return_tensors="pt").to(self.model.device)
            outputs = self.model(**inputs)
            scores_Q, labels_Q = outputs.logits[0].float().sigmoid().max(-1)
            best = scores_Q.topk(min(most, len(scores_Q))).indices
            yield Detections(
                boxes=self._boxes(outputs.pred_boxes[0, best].float(), picture).cpu(),
                scores=scores_Q[best].cpu(),
                labels=labels_Q[best].cpu(),
                names=self.names,
                size=(picture.height, picture.width),
            ).above(threshold)

    def _boxes(self, centred_N4: torch.Tensor, picture: Image.Image) -> torch.Tensor:
        """Shares of the model's input to original pixels: OWLv2 pads to a square, OWL-ViT stretches."""
        squared = "v2" in type(self.model).__name__.lower()
        width, height = (max(picture.size),) * 2 if squared else picture.size
        centre, half = centred_N4[:, :2], centred_N4[:, 2:] / 2
        boxes = torch.cat([centre - half, centre + half], dim=-1) * centred_N4.new_tensor([width, height] * 2)
        return boxes.clamp(min=0).minimum(boxes.new_tensor([picture.width, picture.height] * 2))
