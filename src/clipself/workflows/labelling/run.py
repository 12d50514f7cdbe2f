"""`clipself label` as a function: streams pictures through a model, keeps a journal, writes formats and a page."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from PIL import Image
from tqdm import tqdm

from clipself.backbones.packaged_heads import about_heads
from clipself.choices import pick
from clipself.data.images import FoundPicture, FoundPictures
from clipself.data.images.names import safe_name
from clipself.data.labels.formats import LABEL_FORMATS
from clipself.data.labels.objects import Export, LabelledPicture
from clipself.data.labels.yolo import place_picture
from clipself.data.predictions import leaving_out
from clipself.engine.pictures import resolve_pictures
from clipself.engine.task import digest_of
from clipself.files import Together, clear_parts
from clipself.workflows.labelling.choose import choose_objects, thresholds_of
from clipself.workflows.labelling.config import LabelConfig
from clipself.workflows.labelling.journal import Journal, line_of_left_out
from clipself.workflows.labelling.labellers import PACKAGED, Labeller, open_labeller
from clipself.workflows.labelling.review import draw_thumbnail, thumbnail_of, write_review

MADE_WITH: Final = (
    "names", "stuff", "examples", "example_images", "task", "checkpoint", "masks", "model", "pretrained", "threshold",
    "thresholds", "overlap", "least_area",
)  # fmt: skip
"""Settings that labels depend on; the others say what is written of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelResult:
    """What was written.

    Attributes:
        out: The folder.
        written: Format -> the file or folder to open or import.
        review: The page; None where none was asked for.
        pictures: How many are labelled, those of an earlier part of the run included.
        objects: How many objects each name has.
        left_out: Pictures that could not be read or answered, with the reason.
        resumed: Pictures that an earlier part of the run had labelled.
        about: What a packaged model is; empty for any other.
    """

    out: Path
    written: Mapping[str, Path]
    review: Path | None
    pictures: int
    objects: Mapping[str, int]
    left_out: tuple[Mapping[str, str], ...] = field(default=())
    resumed: int = 0
    about: str = ""

    def to_table(self) -> str:
        """A summary."""
        ranked = sorted(self.objects.items(), key=lambda item: -item[1])
        found = ", ".join(f"{count} x {name}" for name, count in ranked[:20] if count) or "nothing; lower --threshold"
        taken = f" ({self.resumed} of them before)" if self.resumed else ""
        bad = f"; {len(self.left_out)} left out, such as {self.left_out[0]['reason']}" if self.left_out else ""
        lines = [f"{self.pictures} pictures{taken}: {found}{bad}"]
        lines += [f"{name:<13} {path}" for name, path in self.written.items()]
        if self.review is not None:
            lines.append(f"{'look through':<13} {self.review}")
        return "\n".join([*lines, *filter(None, [self.about])])


def label(config: LabelConfig | Mapping[str, Any] | str | Path | None = None, /, **options: Any) -> LabelResult:
    """Labels pictures by names: any detector, segmenter or mask generator, any of the formats in `LABEL_FORMATS`.

    One picture after another is in memory. Each is kept as soon as it is done: the same call again goes on where a run
    was stopped, and leaves the same files as one that was not.

    Args:
        config: All settings, also as a table or a file; or give them as keywords.
        options: Fields of `LabelConfig`; `images` may hold opened pictures too (PIL, arrays, tensors). They, and the
            frames of videos, are written to `images/` of the folder, and links to all others beside them.

    Raises:
        ValueError: There are no names, a setting does not fit, no picture can be read, or the folder holds labels that
            were made with something else.
        FileNotFoundError: A picture or model is missing.
    """
    made, listed = resolve_pictures(LabelConfig, config, **options)
    config = made  # of one type from here on
    labeller = open_labeller(config)
    thresholds = thresholds_of(labeller.names, config.threshold, config.thresholds)
    journal = Journal(config.out)
    made_with = {key: value for key, value in config.to_json().items() if key in MADE_WITH}
    resumed = journal.begin(
        {**made_with, "pictures": digest_of(picture.file for picture in listed)}, overwrite=config.overwrite
    )
    for folder in ("images", "review", *LABEL_FORMATS):
        clear_parts(config.out / folder)
    try:
        _label_rest(config, listed, labeller, thresholds, journal, resumed)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; what is labelled is kept in {journal.path}, and the same command goes on from there"
        ) from None
    return _finish(config, labeller.names, journal, resumed)


def _label_rest(
    config: LabelConfig,
    listed: FoundPictures,
    labeller: Labeller,
    thresholds: list[float],
    journal: Journal,
    done: int,
) -> None:
    """Looks at the pictures that are not done."""
    rest, gather = islice(listed, done, None), any(picture.opened is not None for picture in listed)
    with Together() as thumbnails:  # one that a kill takes is drawn again for the page
        for picture in tqdm(rest, initial=done, total=len(listed), unit="image", leave=False):
            reasons: list[str] = []
            with leaving_out(picture.path, reasons.append):
                image = picture.read()
                found = labeller(image, picture.path, least=min(thresholds))
                objects = choose_objects(
                    found, thresholds=thresholds, overlap=config.overlap, least_area=config.least_area
                )
                path = _gather(picture, image, config) if gather else picture.path.absolute()
                labelled = LabelledPicture(
                    file=_file(picture), path=path, size=(image.height, image.width), objects=objects
                )
                if config.review:
                    draw_thumbnail(labelled, image, labeller.names, thumbnail_of(config.out, labelled), thumbnails)
                journal.add(labelled.to_line())
            for reason in reasons:
                journal.add(line_of_left_out(picture.file, reason))


def _file(picture: FoundPicture) -> str:
    return picture.file if picture.opened is None else f"{picture.name}.png"


def _gather(picture: FoundPicture, image: Image.Image, config: LabelConfig) -> Path:
    """Writes an opened picture or a frame, so that labels have one that they belong to; files come beside it."""
    path = config.out / "images" / safe_name(_file(picture))
    with Together() as files:  # of one: a line of the journal says that it is there
        if picture.opened is None:
            place_picture(picture.path, path, files, copy=config.copy_images)
        else:
            files.write(path, lambda part: image.save(part, format="PNG"))
    return path.absolute()


def _finish(config: LabelConfig, names: tuple[str, ...], journal: Journal, resumed: int) -> LabelResult:
    """Writes every format, and the page."""
    counts, pictures = dict.fromkeys(names, 0), 0
    for picture in journal:
        pictures += 1
        for one in picture.objects:
            counts[names[one.label]] += 1
    left_out = tuple(journal.left_out())
    if not pictures:
        raise ValueError(f"none of {len(left_out)} pictures has an answer; the first: {left_out[0]['reason']}")
    export = Export(
        pictures=journal, names=names, tolerance=config.tolerance, url=config.url, copy=config.copy_images,
        model=config.checkpoint or config.model,
    )  # fmt: skip
    written: dict[str, Path] = {
        name: pick(LABEL_FORMATS, name, what="format")(export, config.out / name)
        for name in dict.fromkeys(config.formats)
    }
    review = write_review(journal, names, config.out, most=config.review_objects) if config.review else None
    packaged = config.checkpoint or (PACKAGED if config.task in ("auto", "detect") and config.masks is None else None)
    return LabelResult(
        out=config.out, written=written, review=review, pictures=pictures, objects=counts, left_out=left_out,
        resumed=resumed, about=about_heads(packaged),
    )  # fmt: skip
