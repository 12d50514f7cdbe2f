"""Official archives of semantic segmentation -> index maps as the published evaluations read them, with checks."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from clipself.choices import pick
from clipself.data.coco.context import ContextFile
from clipself.data.images import IGNORED, IGNORED_16, read_image, read_index_map, size_of, write_index_map
from clipself.data.semantic import CARD, describe_set
from clipself.files import Together, read_text, write_text
from clipself.text.vocabulary import load_vocabulary

log = logging.getLogger(__name__)
Map = NDArray[Any]

CONTEXT_IDS: Final = (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158, 159,
    162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368, 397,
    415, 416, 420, 424, 427, 440, 445, 454, 458,
)  # fmt: skip
"""Categories of PASCAL Context that the 59-class protocol keeps, in the order of its names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One split of an archive.

    Attributes:
        images: Folder of the pictures.
        stems: Names of the maps without suffix, relative to the folders.
        read: Stem -> map of class indices.
        expected: How many maps the official split holds.
    """

    images: Path
    stems: Sequence[str]
    read: Callable[[str], Map]
    expected: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """What is converted.

    Attributes:
        names: Class names; their order is that of the indices.
        ignore_label: Unlabelled pixels.
        splits: By name.
        segment_names: Names to segment by where they are more than the classes scored; None where they are the same.
    """

    names: Sequence[str]
    ignore_label: int
    splits: Mapping[str, Source]
    segment_names: Sequence[str] | None = field(default=None)


def prepare(name: str, root: str | Path, out: str | Path, *, partial_archive: bool = False) -> Path:
    """Converts an official archive.

    Args:
        name: A row of `ARCHIVES`.
        root: Where the archive was unpacked.
        out: Folder for the maps and `dataset.json`; the pictures stay where they are.
        partial_archive: Whether fewer maps than the official split are accepted.

    Returns:
        The folder, which `segment train` and `segment evaluate` take.

    Raises:
        ValueError: The name is unknown, a map holds a value that it must not, or maps are missing.
        FileNotFoundError: A folder or file of the archive is missing.
    """
    archive, out = pick(ARCHIVES, name, what="archive")(Path(root)), Path(out)
    splits: dict[str, dict[str, str]] = {}
    for split, source in archive.splits.items():
        check_count(name, split, len(source.stems), source.expected, partial_archive=partial_archive)
        check_stems(name, source.stems)
        counts = np.zeros(len(archive.names), dtype=np.int64)
        with Together() as files:
            for stem in tqdm(source.stems, desc=f"{name} {split}", unit="map"):
                labels = source.read(stem)
                check_map(labels, stem, classes=len(archive.names), ignore_label=archive.ignore_label)
                check_picture(source.images, stem, labels.shape)
                counts += np.bincount(labels[labels != archive.ignore_label], minlength=len(archive.names))
                write_index_map(out / "labels" / split / f"{stem}.png", labels, files)
        log.info(
            "%s %s: %d maps, %d of %d classes occur", name, split, len(source.stems), (counts > 0).sum(), len(counts)
        )
        splits[split] = {"images": str(source.images.resolve()), "labels": f"labels/{split}"}
    write_text(
        out / CARD, describe_set(archive.names, archive.ignore_label, splits, segment_names=archive.segment_names)
    )
    return out


def check_count(name: str, split: str, found: int, expected: int, *, partial_archive: bool) -> None:
    """Refuses an archive that was unpacked in part.

    Raises:
        ValueError: Maps are missing, and that is not accepted.
    """
    if not found or (found != expected and not partial_archive):
        raise ValueError(
            f"{name} {split} has {found} maps, the official split {expected}; unpack the whole archive, or accept a "
            "part with partial_archive=True (--partial-archive)"
        )


def check_stems(name: str, stems: Sequence[str]) -> None:
    """Refuses names that lead out of the archive, since maps are written under them.

    Raises:
        ValueError: There is one, or one is listed twice.
    """
    for stem in stems:
        if PurePath(stem).is_absolute() or ".." in PurePath(stem).parts or not PurePath(stem).parts:
            raise ValueError(f"{name} lists the map {stem!r}, which leads out of its folder; is it the official list?")
    twice = next((stem for stem, count in Counter(stems).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{name} lists the map {twice!r} twice; is it the official list?")


def check_map(labels: Map, stem: str, *, classes: int, ignore_label: int) -> None:
    """Refuses values that are neither a class nor ignored.

    Raises:
        ValueError: There is one.
    """
    wrong = np.unique(labels[(labels != ignore_label) & ((labels < 0) | (labels >= classes))])
    if labels.ndim != 2 or len(wrong):
        raise ValueError(f"{stem}: the class {wrong[:1]} is not one of {classes}; is this the archive it should be?")


def check_picture(images: Path, stem: str, size: tuple[int, ...]) -> None:
    """Refuses a map without its picture, or of another size.

    Raises:
        FileNotFoundError: There is no picture.
        ValueError: The sizes differ.
    """
    path = next(
        (images / f"{stem}{suffix}" for suffix in (".jpg", ".png") if (images / f"{stem}{suffix}").is_file()), None
    )
    if path is None:
        raise FileNotFoundError(f"no picture {images / stem}.jpg for its map; unpack the pictures there too")
    height, width = size_of(path)
    if (height, width) != size:
        raise ValueError(f"{path} is {height} x {width}, its map {size}; do they belong together?")


def _stems(folder: Path, suffix: str = ".png") -> list[str]:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder at {folder}; unpack the archive so that it is there")
    return [str(path.relative_to(folder).with_suffix("")) for path in sorted(folder.rglob(f"*{suffix}"))]


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"no list at {path}; unpack the archive so that it is there")
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def _through(table: Map, folder: Path, stem: str) -> Map:
    """A map of the archive, each value looked up."""
    return table[read_index_map(folder / f"{stem}.png").astype(np.int64)]


def _table(pairs: Mapping[int, int], *, size: int = 256) -> Map:
    table = np.full(size, IGNORED, dtype=np.int64)
    for value, label in pairs.items():
        table[value] = label
    return table


def coco_stuff(root: Path) -> Archive:
    """COCO-Stuff 171: `images/{train,val}2017`, `annotations/{train,val}2017` of stuffthingmaps_trainval2017.zip."""
    vocab = load_vocabulary("coco_stuff_171")
    table = _table({number - 1: place for place, number in enumerate(vocab.ids)})
    splits = {}
    for split, expected in (("train", 118_287), ("val", 5_000)):
        maps = root / "annotations" / f"{split}2017"
        if maps.is_dir() or split == "val":
            splits[split] = Source(
                images=root / "images" / f"{split}2017", stems=_stems(maps), read=partial(_through, table, maps),
                expected=expected,
            )  # fmt: skip
    return Archive(names=vocab.names, ignore_label=IGNORED, splits=splits)


def ade20k_150(root: Path) -> Archive:
    """ADE20K-150: ADEChallengeData2016; maps count from 1, 0 is ignored."""
    table = _table({value: value - 1 for value in range(1, 151)})
    splits = {}
    for split, folder, expected in (("train", "training", 20_210), ("val", "validation", 2_000)):
        maps = root / "annotations" / folder
        if maps.is_dir() or split == "val":
            splits[split] = Source(
                images=root / "images" / folder, stems=_stems(maps), read=partial(_through, table, maps),
                expected=expected,
            )  # fmt: skip
    return Archive(names=load_vocabulary("ade20k_150").names, ignore_label=IGNORED, splits=splits)


def ade20k_847(root: Path) -> Archive:
    """ADE20K full (ADE20K_2021_17_01): classes that occur in training and validation pictures alike, 847 of them.

    Their indices and names are read from the archive's own maps (red / 10 * 256 + green) and JSON files; the order is
    that of the archive's indices. The pickled index is never opened.
    """
    base = root / "images" / "ADE"
    occurring: list[set[int]] = []
    names: dict[int, str] = {}
    for folder in ("training", "validation"):
        found: set[int] = set()
        for path in tqdm(_full_maps(base / folder), desc=f"classes of {folder}", unit="map"):
            found |= set(np.unique(_read_full(path)).tolist())
            names |= _full_names(path)
        occurring.append(found - {0})
    kept = sorted(occurring[0] & occurring[1])
    lacking = [number for number in kept if number not in names]
    if lacking:
        raise ValueError(f"no JSON of {base} names the class {lacking[0]}; unpack the whole archive")
    rank = np.full(max([*kept, 4095]) + 1, IGNORED_16, dtype=np.int64)
    rank[kept] = np.arange(len(kept))
    if len(kept) != 847:
        log.warning("%d classes occur in both halves, the published protocol has 847", len(kept))
    maps = {
        str(path.relative_to(base / "validation"))[: -len("_seg.png")]: path for path in _full_maps(base / "validation")
    }
    source = Source(
        images=base / "validation", stems=sorted(maps), read=lambda stem: rank[_read_full(maps[stem])], expected=2_000
    )
    return Archive(names=[names[number] for number in kept], ignore_label=IGNORED_16, splits={"val": source})


def _full_maps(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder at {folder}; unpack ADE20K_2021_17_01 so that it is there")
    return sorted(folder.rglob("*_seg.png"))


def _read_full(path: Path) -> Map:
    colour = np.asarray(read_image(path), dtype=np.int64)
    return colour[..., 0] // 10 * 256 + colour[..., 1]


def _full_names(path: Path) -> dict[int, str]:
    card = path.with_name(path.name.replace("_seg.png", ".json"))
    if not card.is_file():
        return {}
    objects = json.loads(card.read_bytes().decode("latin-1"))["annotation"]["object"]
    return {int(row["name_ndx"]): str(row["name"]) for row in objects}


def pascal_context_59(root: Path) -> Archive:
    """PASCAL Context 59: VOC2010 with `trainval_merged.json`; later annotations of a picture lie on top."""
    held = ContextFile(root / "trainval_merged.json")
    rank = {number: place for place, number in enumerate(CONTEXT_IDS)}

    def read(stem: str) -> Map:
        labels = np.full(held.size(stem), IGNORED, dtype=np.int64)
        for category, mask in held.masks(stem):
            labels[mask] = rank.get(category, IGNORED)
        return labels

    source = Source(images=root / "JPEGImages", stems=sorted(held.by_stem), read=read, expected=5_105)
    return Archive(names=load_vocabulary("pascal_context_59").names, ignore_label=IGNORED, splits={"val": source})


def pascal_context_459(root: Path) -> Archive:
    """PASCAL Context 459: VOC2010 with `trainval/*.mat`, `labels.txt` and `pascalcontext_val.txt`; 460 is unknown."""
    from scipy.io import loadmat

    rows = [line.split(":", 1) for line in _lines(root / "labels.txt") if ":" in line]
    names = [name.strip() for _, name in sorted(rows, key=lambda row: int(row[0]))][:459]

    def read(stem: str) -> Map:
        labels = loadmat(root / "trainval" / f"{stem}.mat")["LabelMap"].astype(np.int64) - 1
        return np.where(labels >= 459, IGNORED_16, labels)

    stems = _lines(root / "pascalcontext_val.txt")
    source = Source(images=root / "JPEGImages", stems=stems, read=read, expected=5_105)
    return Archive(names=names, ignore_label=IGNORED_16, splits={"val": source})


def _voc(root: Path, pairs: Mapping[int, int], names: Sequence[str], segment_names: Sequence[str] | None) -> Archive:
    augmented = root / "SegmentationClassAug"
    maps = augmented if augmented.is_dir() else root / "SegmentationClass"
    table = _table(pairs)
    stems = _lines(root / "ImageSets" / "Segmentation" / "val.txt")
    source = Source(images=root / "JPEGImages", stems=stems, read=partial(_through, table, maps), expected=1_449)
    return Archive(names=names, ignore_label=IGNORED, splits={"val": source}, segment_names=segment_names)


def voc_20(root: Path) -> Archive:
    """PASCAL VOC 2012 without its background."""
    return _voc(root, {value: value - 1 for value in range(1, 21)}, load_vocabulary("pascal_voc_20").names, None)


def voc_21(root: Path) -> Archive:
    """PASCAL VOC 2012, background first."""
    names = ("background", *load_vocabulary("pascal_voc_20").names)
    return _voc(root, {value: value for value in range(21)}, names, None)


def voc_20b(root: Path) -> Archive:
    """PASCAL VOC 2012, background last; it is segmented by what PASCAL Context calls the rest of the world."""
    names = load_vocabulary("pascal_voc_20").names
    same = {"aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "table", "dog",
            "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv monitor"}  # fmt: skip
    rest = [name for name in load_vocabulary("pascal_context_59").names if name not in same]
    pairs = {0: 20, **{value: value - 1 for value in range(1, 21)}}
    return _voc(root, pairs, (*names, "background"), (*names, *rest))


ARCHIVES: Final[Mapping[str, Callable[[Path], Archive]]] = {
    "coco-stuff": coco_stuff,
    "ade20k-150": ade20k_150,
    "ade20k-847": ade20k_847,
    "pascal-context-59": pascal_context_59,
    "pascal-context-459": pascal_context_459,
    "voc-20": voc_20,
    "voc-21": voc_21,
    "voc-20b": voc_20b,
}
"""Archive by name -> how it is read."""


def archive_help() -> Iterator[str]:
    """One line an archive: what is expected where."""
    for name, read in ARCHIVES.items():
        yield f"{name}: {(read.__doc__ or '').splitlines()[0]}"
