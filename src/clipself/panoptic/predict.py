"""Pictures and names in; panoptic PNGs, JSON and drawings out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clipself.backbones.devices import pick_device
from clipself.backbones.loading import load_clip
from clipself.data.images import read_image
from clipself.data.panoptic import PanopticWriter
from clipself.data.sources import ImageFolder
from clipself.files import write_atomically, write_json
from clipself.metrics.mask_ap import encode_mask
from clipself.panoptic.config import PanopticPredictConfig
from clipself.panoptic.generators.table import open_generator
from clipself.panoptic.judge import ClipJudge
from clipself.panoptic.segmenter import PanopticSegmenter
from clipself.panoptic.to_maps import Rules, Segmented
from clipself.text.vocabulary import VOCABULARIES, load_vocabulary
from clipself.viz.panels import lay_out
from clipself.viz.panoptic_maps import paint_segments


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticPredictions:
    """What was written.

    Attributes:
        panoptic: COCO panoptic JSON; its PNGs lie in `panoptic/` beside it.
        instances: COCO results with run lengths.
        drawings: One PNG for each picture.
        segments: How many segments were found in all.
    """

    panoptic: Path
    instances: Path
    drawings: tuple[Path, ...]
    segments: int

    def to_table(self) -> str:
        """A summary."""
        return (
            f"{self.segments} segments in {len(self.drawings)} pictures\npanoptic   {self.panoptic}\n"
            f"instances  {self.instances}\ndrawings   {self.panoptic.parent / 'drawings'}"
        )


def predict_panoptic(config: PanopticPredictConfig | None = None, /, **options: Any) -> PanopticPredictions:
    """Segments pictures by names.

    Args:
        config: All settings; or give them as keywords.
        options: Fields of `PanopticPredictConfig`.

    Raises:
        ValueError: There are no names, one is given twice, or masks, scores and model do not fit.
        FileNotFoundError: A picture, the masks or a model is missing.
    """
    config = config if config is not None else PanopticPredictConfig(**options)
    if len(config.scores) != 1:
        raise ValueError(f"scores={config.scores}: one way of scoring makes one answer; name one of them")
    names, is_thing = read_names(config.things, config.stuff)
    paths = list(find_pictures(config.inputs))
    device = pick_device(config.device)
    judge = ClipJudge(
        load_clip(config.model, config.pretrained, device=device),
        names,
        by=config.judge_by,
        image_size=config.image_size,
        readout=config.readout,
        templates=config.templates,
    )
    segmenter = PanopticSegmenter(
        open_generator(config.masks, device=device),
        judge,
        names,
        is_thing,
        scores=config.scores[0],
        rules=Rules(
            object_threshold=config.object_threshold, overlap_threshold=config.overlap_threshold, top=config.top
        ),
    )
    return write_predictions(segmenter, paths, config.out)


def write_predictions(segmenter: PanopticSegmenter, paths: Sequence[Path], out: str | Path) -> PanopticPredictions:
    """Segments pictures and writes the results; the JSON files come last.

    Args:
        segmenter: Masks, CLIP and names.
        paths: Picture files.
        out: Folder, made when missing.
    """
    out, names = Path(out), segmenter.names
    writer = PanopticWriter(
        out, class_ids=range(1, len(names) + 1), class_names=names, class_is_thing=segmenter.is_thing
    )
    drawings, rows, count = [], [], 0
    for index, path in enumerate(tqdm(paths, desc="panoptic", unit="image", leave=False)):
        picture = read_image(path)
        found = segmenter(picture, file=str(path))
        labels = {segment.id: segment.label for segment in found.panoptic.segments}
        ids = found.panoptic.ids_HW.cpu().numpy()
        scores = {segment.id: segment.score for segment in found.panoptic.segments}
        writer.add(image_id=index + 1, name=str(path), ids_HW=ids, labels=labels, scores=scores)
        rows += instance_rows(found, image_id=index + 1)
        sheet = lay_out([[(path.name, picture), ("panoptic", paint_segments(picture, ids, labels, names))]], height=400)
        target = out / "drawings" / f"{path.stem}.png"
        drawings.append(write_atomically(target, lambda part, sheet=sheet: sheet.save(part, format="PNG")))  # type: ignore[misc]
        count += len(labels)
    instances = write_json(out / "instances.json", rows)
    return PanopticPredictions(panoptic=writer.close(), instances=instances, drawings=tuple(drawings), segments=count)


def instance_rows(found: Segmented, *, image_id: int) -> list[dict[str, Any]]:
    """Instances as COCO results; class ids are labels plus one."""
    held = found.instances
    return [
        {
            "image_id": image_id,
            "category_id": label + 1,
            "score": round(score, 5),
            "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            "segmentation": encode_mask(mask),
        }
        for mask, label, score, box in zip(
            held.masks_NHW.cpu().numpy(), held.labels_N.tolist(), held.scores_N.tolist(), held.boxes.tolist(),
            strict=True,
        )
    ]  # fmt: skip


def read_names(things: str, stuff: str) -> tuple[list[str], list[bool]]:
    """Names and kinds from two words of the command line.

    A packaged vocabulary that knows its own things and stuff brings both.

    Args:
        things: Names joined by ";", a text file, or a packaged vocabulary.
        stuff: Likewise.

    Raises:
        ValueError: There are no names, or one is given twice.
        FileNotFoundError: A text file is missing.
    """
    names: list[str] = []
    kinds: list[bool] = []
    for said, is_thing in ((things, True), (stuff, False)):
        if said in VOCABULARIES:
            vocab = load_vocabulary(said)
            names += vocab.names
            kinds += vocab.is_thing if is_thing else (False,) * len(vocab)
        elif said.endswith(".txt"):
            some = load_vocabulary(said).names
            names, kinds = [*names, *some], kinds + [is_thing] * len(some)
        else:
            some = tuple(name.strip() for name in said.split(";") if name.strip())
            names, kinds = [*names, *some], kinds + [is_thing] * len(some)
    if not names:
        raise ValueError('there are no names to look for; pass things="cat; dog" and stuff="grass; sky"')
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise ValueError(f"{twice[0]!r} is named twice; every class needs its own name")
    return names, kinds


def find_pictures(inputs: Sequence[Path]) -> Iterator[Path]:
    """The files themselves, and every picture below the folders."""
    for path in inputs:
        if Path(path).is_dir():
            yield from ImageFolder(path).paths
        else:
            yield Path(path)
