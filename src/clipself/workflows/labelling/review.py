"""A page to look labels through: thumbnails, and of each name the best and the most doubtful objects and its scores."""

import heapq
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from clipself.data.images import read_image
from clipself.data.images.names import safe_name
from clipself.data.labels.objects import LabelledObject, LabelledPicture
from clipself.files import Together
from clipself.ops.run_lengths import encode_mask
from clipself.viz.boxes import DrawnBox, draw_boxes
from clipself.viz.colours import class_colour
from clipself.viz.gallery import GalleryPage, Tile, bars, link

log = logging.getLogger(__name__)

LONGEST: Final = 480
"""Longest side of a thumbnail, in pixels."""
CROP: Final = 160
"""Longest side of an object's picture."""
AROUND: Final = 0.15
"""How much of its surroundings an object's picture shows on each side, as a share of its longer side."""
PICTURES_A_PAGE: Final = 100
NEAR: Final = 10
"""Pages before and after one to which it leads."""
BINS: Final = 20


def thumbnail_of(out: Path, picture: LabelledPicture) -> Path:
    """Where the thumbnail of a picture lies; two pictures of one name but different suffixes have two."""
    return out / "review" / "pictures" / f"{safe_name(picture.file)}.jpg"


def draw_thumbnail(
    picture: LabelledPicture, image: Image.Image, names: Sequence[str], path: Path, files: Together
) -> None:
    """Writes a picture with its objects, small."""
    scale = min(1.0, LONGEST / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.convert("RGB").resize(size, reducing_gap=3.0)
    shares = (size[0] / image.width, size[1] / image.height) * 2
    drawn = [
        DrawnBox(
            box=_scaled(one.box, shares), text=_caption(one, names), colour=class_colour(one.label),
            mask=None if one.mask is None else encode_mask(_shrunk(one, size)),
        )
        for one in picture.objects
    ]  # fmt: skip
    _save(draw_boxes(small, drawn), path, files)


def _scaled(
    box: tuple[float, float, float, float], shares: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    left, top, right, bottom = (value * share for value, share in zip(box, shares, strict=True))
    return left, top, right, bottom


def _shrunk(one: LabelledObject, size: tuple[int, int]) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
    mask = one.decode()
    rows, cols = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64) for new, old in zip(size[::-1], mask.shape, strict=True)
    )
    return np.asarray(mask[rows][:, cols])


def _caption(one: LabelledObject, names: Sequence[str]) -> str:
    return names[one.label] if one.score is None else f"{names[one.label]} {one.score:.2f}"


def _save(picture: Image.Image, path: Path, files: Together) -> None:
    files.write(path, lambda part: picture.save(part, format="JPEG", quality=85))


@dataclass(order=True, frozen=True, slots=True)
class _Place:
    """An object by its place, better ones larger."""

    score: float
    order: int
    picture: int = field(compare=False)
    place: int = field(compare=False)
    file: str = field(compare=False, default="")


@dataclass(kw_only=True, slots=True)
class _Name:
    """What is known of a name's objects, however many there are."""

    bins: list[int] = field(default_factory=lambda: [0] * BINS)
    count: int = 0
    pictures: int = 0
    total: float = 0.0
    best: list[_Place] = field(default_factory=list)
    doubtful: list[_Place] = field(default_factory=list)

    def add(self, at: _Place, *, most: int) -> None:
        self.count += 1
        self.total += at.score
        self.bins[min(BINS - 1, int(at.score * BINS))] += 1
        worse = replace(at, score=-at.score, order=-at.order)
        for heap, one in ((self.best, at), (self.doubtful, worse)):
            heapq.heappush(heap, one)
            if len(heap) > most:
                heapq.heappop(heap)


def write_review(pictures: Iterable[LabelledPicture], names: Sequence[str], out: Path, *, most: int) -> Path:
    """Writes `review/index.html` with the pages and pictures that it leads to.

    Args:
        pictures: May be gone through several times.
        names: Class names.
        out: Folder of the run, which holds the thumbnails; those that are missing are drawn.
        most: Best and most doubtful objects of a name, each.

    Returns:
        The page.
    """
    folder, known = out / "review", [_Name() for _ in names]
    count = _count(pictures, known, most=most)
    with Together() as files:
        _write_objects(pictures, known, folder, files)
    for label, one in enumerate(known):
        if one.count:
            _write_name(label, names[label], one, folder)
    pages = max(1, -(-count // PICTURES_A_PAGE))
    objects = sum(one.count for one in known)
    lead = f"{count} pictures, {objects} objects, {sum(one.count > 0 for one in known)} of {len(names)} names"
    for page, tiles in enumerate(_tiles(pictures, names, out), start=1):
        links = _links(page, pages)
        shown = GalleryPage("Labels" if page == 1 else f"Labels, page {page}", lead=lead)
        if page == 1:
            shown.table(("name", "objects", "pictures", "mean score", "scores from 0 to 1"), list(_rows(known, names)))
        shown.heading("Pictures")
        shown.links(links)
        shown.grid(tiles)
        shown.links(links)
        shown.write(folder / _file_of(page))
    return folder / "index.html"


def _file_of(page: int) -> str:
    return "index.html" if page == 1 else f"pictures-{page}.html"


def _links(page: int, pages: int) -> list[tuple[str, str]]:
    """To the first and last page and those near this one: to all, they would grow as the square of the pictures."""
    near = {1, *range(max(1, page - NEAR), min(pages, page + NEAR) + 1), pages}
    return [(str(one), _file_of(one)) for one in sorted(near)] if pages > 1 else []


def _count(pictures: Iterable[LabelledPicture], known: Sequence[_Name], *, most: int) -> int:
    count = order = 0
    for place, picture in enumerate(pictures):
        count += 1
        for row, one in enumerate(picture.objects):
            order += 1
            score = 1.0 if one.score is None else one.score
            known[one.label].add(_Place(score, -order, place, row, picture.file), most=most)
        for label in {one.label for one in picture.objects}:
            known[label].pictures += 1
    return count


def _rows(known: Sequence[_Name], names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for label in sorted(range(len(names)), key=lambda label: (-known[label].count, label)):
        one = known[label]
        if one.count:
            told = bars(one.bins, title=f"{names[label]}: {one.bins}")
            page = link(names[label], _page_of(label))
            yield page, str(one.count), str(one.pictures), f"{one.total / one.count:.2f}", told
        else:
            yield escape(names[label]), "0", "0", "", ""


def _page_of(label: int) -> str:
    return f"name-{label + 1}.html"


def _object_file(at: _Place) -> str:
    return f"objects/{at.picture + 1}-{at.place + 1}.jpg"


def _write_objects(pictures: Iterable[LabelledPicture], known: Sequence[_Name], folder: Path, files: Together) -> None:
    """Cuts out the objects that some page shows; each picture is read once."""
    wanted: dict[int, set[int]] = {}
    for one in known:
        for at in (*one.best, *one.doubtful):
            wanted.setdefault(at.picture, set()).add(at.place)
    for number, picture in enumerate(pictures):
        if number in wanted:
            try:
                image = read_image(picture.path)
            except (ValueError, FileNotFoundError):  # told where its thumbnail is missing
                continue
            for place in sorted(wanted[number]):
                at = _Place(0.0, 0, number, place)
                _save(_cut_out(image, picture.objects[place]), folder / _object_file(at), files)


def _cut_out(image: Image.Image, one: LabelledObject) -> Image.Image:
    left, top, right, bottom = one.box
    around = AROUND * max(right - left, bottom - top)
    box = (
        max(0, int(left - around)), max(0, int(top - around)),
        min(image.width, int(right + around) + 1), min(image.height, int(bottom + around) + 1),
    )  # fmt: skip
    part = image.crop(box)
    part.thumbnail((CROP, CROP))
    return part


def _write_name(label: int, name: str, one: _Name, folder: Path) -> None:
    lead = f"{one.count} objects in {one.pictures} pictures, mean score {one.total / one.count:.2f}"
    page = GalleryPage(name, lead=lead, links=[("all names", "index.html")])
    best = sorted(one.best, reverse=True)
    shown = {(at.picture, at.place) for at in best}
    doubtful = [at for at in sorted(one.doubtful, reverse=True) if (at.picture, at.place) not in shown]
    for title, some in (("Best", best), ("Most doubtful", doubtful)):
        if some:
            page.heading(title)
            page.grid([_tile_of(at) for at in some], small=True)
    page.write(folder / _page_of(label))


def _tile_of(at: _Place) -> Tile:
    """An object, which leads to its picture."""
    return Tile(file=_object_file(at), caption=f"{abs(at.score):.2f}", link=f"pictures/{safe_name(at.file)}.jpg")


def _tiles(pictures: Iterable[LabelledPicture], names: Sequence[str], out: Path) -> Iterator[list[Tile]]:
    """The thumbnails of one page after another."""
    tiles: list[Tile] = []
    files = Together()
    for picture in pictures:
        path = thumbnail_of(out, picture)
        if not path.is_file():
            try:
                draw_thumbnail(picture, read_image(picture.path), names, path, files)
            except (ValueError, FileNotFoundError) as error:  # it was there when it was labelled
                log.warning("%s; its place on the page stays empty", error)
        counts = f"{len(picture.objects)} object{'' if len(picture.objects) == 1 else 's'}"
        file = path.relative_to(out / "review").as_posix()
        tiles.append(Tile(file=file, caption=f"{picture.file}: {counts}", link=file))
        if len(tiles) == PICTURES_A_PAGE:
            yield tiles
            tiles = []
    files.flush()
    if tiles:
        yield tiles
