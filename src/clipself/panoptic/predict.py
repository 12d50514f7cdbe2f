"""Pictures and names in; panoptic PNGs, JSON and drawings out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipself.backbones.devices import pick_device
from clipself.backbones.packaged_heads import about_heads
from clipself.data.examples import examples_of
from clipself.data.images import IGNORED, IGNORED_16, FoundPicture, FoundPictures
from clipself.data.panoptic import PanopticWriter
from clipself.data.predictions import PredictionFolder
from clipself.engine.pictures import resolve_pictures
from clipself.panoptic.config import PanopticPredictConfig
from clipself.panoptic.generators.table import PACKAGED_MASKS, generator_of, tell_files
from clipself.panoptic.judge import open_judge
from clipself.panoptic.results import to_coco
from clipself.panoptic.segmenter import PanopticSegmenter
from clipself.structures import Panoptic
from clipself.text.names import parse_names
from clipself.viz.panels import lay_out, shrink
from clipself.viz.panoptic_maps import paint_segments

HEIGHT: Final = 400
"""Of drawings, in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticPredictions:
    """What was written.

    Attributes:
        results: The segments of each picture, and what was listed, read and left out.
        panoptic: COCO panoptic JSON; its PNGs lie in `panoptic/` beside it, and `maps/` holds the class of every pixel.
        coco: Scored things as COCO annotations with run lengths.
        drawings: One PNG for each picture.
        segments: How many segments were found in all.
        said: One line about the pictures.
        about: What a packaged generator is; empty for any other.
    """

    results: Path
    panoptic: Path
    coco: Path
    drawings: Sequence[Path]
    segments: int
    said: str
    about: str = ""

    def to_table(self) -> str:
        """A summary."""
        lines = (f"{self.segments} segments in {self.said}", f"panoptic maps: {self.panoptic}", self.about)
        return "\n".join(filter(None, lines))


def predict_panoptic(
    config: PanopticPredictConfig | Mapping[str, Any] | str | Path | None = None, /, **options: Any
) -> PanopticPredictions:
    """Segments pictures by names.

    Args:
        config: All settings, or a file of them; or give them as keywords.
        options: Fields of `PanopticPredictConfig`; paths may be strings, tables stand for nested settings, and `images`
            may hold opened pictures (PIL, arrays, tensors).

    Raises:
        ValueError: There are no names, one is given twice, or masks, scores and model do not fit.
        FileNotFoundError: A picture, the masks or a model is missing.
    """
    made, pictures = resolve_pictures(PanopticPredictConfig, config, **options)
    config = made  # of one type from here on
    examples = examples_of(config.examples, config.example_images)
    device = pick_device(config.device)
    generator = generator_of(config.checkpoint, config.masks, device=device)
    tell_files(generator, list(map(str, pictures.paths)))
    judge = open_judge(
        config.model, config.pretrained, text_from=config.text_from, settings=config.judge, device=device
    )
    scores = config.scores[0] if config.scores else "both" if generator.trained_names and not examples else "clip"
    segmenter = PanopticSegmenter(generator, judge, scores=scores, rules=config.rules)
    typed = config.names or config.stuff or not examples
    names = parse_names(config.names, stuff=config.stuff) if typed else ()
    segmenter.use(names, examples=examples)
    checkpoint = config.checkpoint or (PACKAGED_MASKS if config.masks is None else None)
    return replace(write_predictions(segmenter, pictures, config.out), about=about_heads(checkpoint))


def write_predictions(segmenter: PanopticSegmenter, pictures: FoundPictures, out: str | Path) -> PanopticPredictions:
    """Segments pictures and writes each result as it is made; a broken picture is left out with a warning.

    Args:
        segmenter: Masks, CLIP and names.
        pictures: Picture files.
        out: Folder, made when missing.

    Raises:
        ValueError: No picture at all could be segmented.
    """
    out, names = Path(out), tuple(segmenter.names)
    kinds = segmenter.is_thing
    writer = PanopticWriter(out, class_ids=range(1, len(names) + 1), class_names=names, class_is_thing=kinds)
    with PredictionFolder(out, pictures, names, head={"is_thing": kinds}, more=writer.close) as folder:
        for picture, image in folder.read():
            with folder.attempt(picture):
                found = segmenter(image, file=str(picture.path))
                number, panoptic = folder.number, found.panoptic
                map_file = writer.add(panoptic, image_id=number, file=picture.file, name=picture.name)
                row = {"panoptic": map_file.relative_to(out).as_posix(), "segments": describe(panoptic)}
                folder.add(
                    picture, image, draw(picture, image, panoptic), found=row,
                    rows=to_coco(found.instances, image_id=number), labels_HW=classes_of(panoptic),
                )  # fmt: skip
    return PanopticPredictions(
        results=folder.results, panoptic=out / "panoptic.json", coco=folder.coco, drawings=folder.drawings,
        segments=sum(len(row["segments"]) for row in folder.rows), said=folder.describe(),
    )  # fmt: skip


def draw(picture: FoundPicture, image: Image.Image, found: Panoptic) -> Image.Image:
    """A picture beside its segments."""
    labels = {segment.id: segment.label for segment in found.segments}
    shown, ids = shrink(image, found.ids_HW.cpu().numpy(), height=HEIGHT)
    return lay_out([[(picture.path.name, shown), ("panoptic", paint_segments(shown, ids, labels, found.names))]],
                   height=HEIGHT)  # fmt: skip


def classes_of(found: Panoptic) -> NDArray[np.int64]:
    """Class of every pixel (H, W); void is 255, or 65535 where there are more classes."""
    label_of = np.full(len(found) + 1, IGNORED if len(found.names) <= IGNORED else IGNORED_16, dtype=np.int64)
    for segment in found.segments:
        label_of[segment.id] = segment.label
    labels_HW: NDArray[np.int64] = label_of[found.ids_HW.cpu().numpy()]
    return labels_HW


def describe(found: Panoptic) -> list[dict[str, Any]]:
    """The segments of a picture as plain values, the largest first; shares are of its pixels."""
    counts = found.ids_HW.flatten().bincount(minlength=len(found) + 1).tolist()
    rows = [
        {
            "id": one.id,
            "name": found.names[one.label],
            "is_thing": one.is_thing,
            "score": round(one.score, 5),
            "share": round(counts[one.id] / found.ids_HW.numel(), 5),
        }
        for one in found.segments
    ]
    return sorted(rows, key=lambda row: -row["share"])
