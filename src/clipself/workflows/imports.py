"""Released detectors, segmenters and mask generators as folders, by the recipe or method that a file belongs to."""

from pathlib import Path

from clipself.choices import pick
from clipself.data.detection import ClassSplit
from clipself.detection.recipes import detect_recipe
from clipself.detection.released import import_released
from clipself.panoptic.imported import IMPORTS
from clipself.segmentation.imported import import_segmenter as import_segmenter_of
from clipself.text.names import parse_names
from clipself.text.vocabulary import load_vocabulary


def import_detector(
    weights: str | Path,
    out: str | Path,
    *,
    recipe: str = "ov-coco-b16",
    pretrained: str | None = None,
    text_from: str | None = None,
) -> tuple[Path, ClassSplit]:
    """Writes a released detector as a folder.

    Args:
        weights: The released file.
        out: Folder to write.
        recipe: Configuration that the file belongs to; it says which detector it is, and which classes it was trained
            with.
        pretrained: Tag or file of the backbone's release, for its text tower; the recipe's if not given.
        text_from: Release of the text tower, where that file holds none.

    Returns:
        The folder, and the classes.

    Raises:
        ValueError: There is no such recipe, or the file does not fit it.
        FileNotFoundError: There is no such file.
    """
    config = detect_recipe(recipe)
    vocabulary = load_vocabulary("ov_coco_65" if config.split == "ov-coco" else "lvis_v1_1203")
    is_base = tuple(not novel for novel in vocabulary.is_novel)
    classes = ClassSplit(ids=vocabulary.ids, names=vocabulary.names, is_base=is_base)
    folder = import_released(
        weights, out, model=config.model, pretrained=pretrained or config.pretrained, settings=config.detector,
        classes=classes, text_from=text_from,
    )  # fmt: skip
    return folder, classes


def import_segmenter(
    weights: str | Path,
    out: str | Path,
    *,
    method: str = "catseg",
    names: tuple[str, ...] = ("coco_stuff_171",),
    crop: int | None = None,
) -> tuple[Path, int]:
    """Writes a released CAT-Seg or SAN as a folder.

    Args:
        weights: The released file.
        out: Folder to write.
        method: Whose checkpoint it is.
        names: Classes of its training: words, a text file, or a packaged vocabulary.
        crop: Side of its training crops, in pixels; the published one if not given.

    Returns:
        The folder, and how many classes it was trained with.

    Raises:
        ValueError: The file does not fit the method.
        FileNotFoundError: There is no such file.
    """
    known = parse_names(names).names
    return import_segmenter_of(weights, out, method=method, names=known, crop=crop), len(known)


def import_masks(
    weights: str | Path,
    out: str | Path,
    *,
    system: str = "fcclip",
    model: str | None = None,
    pretrained: str | None = None,
    diffusion: str | None = None,
    image_size: int | None = None,
) -> Path:
    """Writes a released FC-CLIP or ODISE as a folder.

    Args:
        weights: The released file.
        out: Folder to write.
        system: Row of `IMPORTS`.
        model: The CLIP of the generator; see `import_fcclip` and `import_odise`, as for the others.
        pretrained: ODISE: tag or file of a named model.
        diffusion: ODISE: its frozen diffusion model.
        image_size: Longest side of the input, in pixels, of ODISE's the shortest; as published if not given.

    Raises:
        ValueError: There is no such system, or the file does not fit it.
        FileNotFoundError: There is no such file.
    """
    named = {"model": model, "pretrained": pretrained, "diffusion": diffusion, "image_size": image_size}
    told = {name: value for name, value in named.items() if value is not None}
    folder: Path = pick(IMPORTS, system, what="system of masks")(weights, out, **told)
    return folder
