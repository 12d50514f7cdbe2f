"""Pictures for the image tower: random crops of photographs, single objects of the scene art, kinds of ground."""

import csv
import io
import json
import random
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance
from pool import Box, Crop, coco_boxes, pool_plan
from torch import Tensor

from clipself.data.scenes.textures import STUFF

SIDE = 160
MEAN, STD = 127.0, 128.0  # what the ImageNet network was trained with
CROPS_EACH = {"caltech101": 2, "imagenet_sample": 6, "tiny_imagenet": 1}
COCO_DETAILS, COCO_WHOLE = 18, 6
ART_EACH, STUFF_EACH = 75, 350
ART = Path(__file__).parents[2] / "src/clipself/data/scenes/art/noto.webp"


def photographs(data: Path) -> list[dict[str, str]]:
    """Rows of the labelled photographs' index: source, shard, member, label."""
    with (data / "pretrain_images/index.tsv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def label_of(row: Mapping[str, str]) -> str:
    """The usual name: WordNet's lists of synonyms begin with it."""
    return row["label"].split(",")[0].strip()


def is_held_out(row: Mapping[str, str]) -> bool:
    """Whether a photograph is kept for measuring: a tenth of Caltech-101, by a digest of its name."""
    return row["source"] == "caltech101" and zlib.crc32(row["member"].encode()) % 10 == 0


def plan(data: Path) -> list[Crop]:
    """Every crop to be made, shuffled with a fixed seed."""
    rows: list[Crop] = []
    for row in photographs(data):
        if not is_held_out(row):
            container = f"pretrain_images/{Path(row['shard']).with_suffix('.tar')}"
            crop = Crop(row["source"], container, row["member"], label_of(row), whole=True)
            rows += [crop] * CROPS_EACH[row["source"]]
    for path in sorted((data / "coco_sample/images/train2017").glob("*.jpg")):
        crop = Crop("coco", "", path.name, "")
        rows += [crop] * COCO_DETAILS + [crop._replace(whole=True)] * COCO_WHOLE
    rows += coco_boxes(data)
    rows += pool_plan(data)
    for place, entry in enumerate(json.loads(ART.with_suffix(".json").read_text())):
        rows += [Crop("art", "", str(place), entry["name"])] * ART_EACH
    for kind in STUFF:
        rows += [Crop("stuff", "", kind, kind)] * STUFF_EACH
    random.Random(0).shuffle(rows)
    return rows


def rows_of_step(step: int, *, batch_size: int, total: int) -> tuple[int, np.ndarray]:
    """The epoch of a step and its rows of the plan: every epoch a new order, the odd rest left out."""
    epoch, place = divmod(step, max(1, total // batch_size))
    order = np.random.default_rng(epoch).permutation(total)
    return epoch, order[place * batch_size :][:batch_size]


class CropMaker(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Decodes, crops, flips and jitters; row i of an epoch is always the same picture.

    Args:
        data: Folder of the pictures' plan.
        rows: The plan.
        side: Of the crops, in pixels.
        jitter: Whether brightness, contrast and colour are changed here.
    """

    def __init__(self, data: Path, rows: Sequence[Crop], *, side: int = SIDE, jitter: bool = True) -> None:
        self.data, self.rows, self.side, self.jitter = data, rows, side, jitter
        self.tars: dict[str, tarfile.TarFile] = {}
        self.members: dict[str, dict[str, tarfile.TarInfo]] = {}
        self.photos = sorted((data / "coco_sample/images/train2017").glob("*.jpg"))
        self.art: list[Image.Image] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        crop = self.rows[index]
        rng = random.Random(f"{epoch}/{index}" if epoch else index)
        if crop.source == "art":
            picture = self._object(int(crop.member), rng)
        elif crop.source == "stuff":
            picture = self._texture(crop.member, rng)
        elif crop.box is not None:
            picture = _box_crop(self._photo(crop), rng, crop.box)
        elif crop.whole:
            picture = _whole(self._photo(crop), rng)
        else:
            picture = _detail(self._photo(crop), rng)
        if rng.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        picture = picture.resize((self.side, self.side), Image.Resampling.BICUBIC)
        if self.jitter:
            picture = _jitter(picture, rng)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous(), index

    def _photo(self, crop: Crop) -> Image.Image:
        if crop.source == "coco":
            return Image.open(self.data / "coco_sample/images/train2017" / crop.member).convert("RGB")
        if crop.container not in self.tars:
            tar = tarfile.open(self.data / crop.container)  # noqa: SIM115  open for the worker's life
            self.tars[crop.container], self.members[crop.container] = tar, {member.name: member for member in tar}
        stream = self.tars[crop.container].extractfile(self.members[crop.container][crop.member])
        assert stream is not None
        return Image.open(io.BytesIO(stream.read())).convert("RGB")

    def _object(self, place: int, rng: random.Random) -> Image.Image:
        """One object, turned and cut a little, on plain colour, noise, a kind of ground or a piece of a photograph."""
        canvas = self._background(rng)
        glyph = self._glyphs()[place].rotate(rng.uniform(-30, 30), resample=Image.Resampling.BICUBIC, expand=True)
        scale = SIDE * rng.uniform(0.45, 1.15) / max(glyph.size)
        width, height = (max(8, int(side * scale)) for side in glyph.size)
        # The scenes show objects as small as 32 px, so some are drawn small and enlarged again.
        small = rng.choice((1.0, 1.0, 0.5, 0.25))
        glyph = glyph.resize((max(8, int(width * small)), max(8, int(height * small))), Image.Resampling.LANCZOS)
        glyph = glyph.resize((width, height), Image.Resampling.BICUBIC)
        left = int((SIDE - width) / 2 + rng.uniform(-0.2, 0.2) * SIDE)
        top = int((SIDE - height) / 2 + rng.uniform(-0.2, 0.2) * SIDE)
        canvas.paste(glyph, (left, top), glyph)
        for _ in range(rng.choice((0, 0, 1, 2))):  # others in front of or beside it
            self._scatter(canvas, rng, longest=rng.randrange(30, 90), edge=True)
        if rng.random() < 0.5:  # as a teacher crop of its box shows it
            more = rng.uniform(0.0, 0.3)
            box = (left - more * width, top - more * height, left + (1 + more) * width, top + (1 + more) * height)
            canvas = _letterbox(canvas.crop((*(max(0, int(edge)) for edge in box[:2]),
                                             *(min(SIDE, int(edge)) for edge in box[2:]))))  # fmt: skip
        return canvas

    def _texture(self, kind: str, rng: random.Random) -> Image.Image:
        """One kind of ground, near or far, often with small things on it, half of the time as a letterboxed strip."""
        canvas = _ground(kind, rng)
        for _ in range(rng.choice((0, 0, 1, 2, 4))):
            self._scatter(canvas, rng, longest=rng.randrange(15, 50), edge=False)
        if rng.random() < 0.5:
            width, height = canvas.size
            strip = int(height * rng.uniform(0.25, 0.9))
            top = rng.randrange(height - strip)
            canvas = _letterbox(canvas.crop((0, top, width, top + strip)))
        return canvas

    def _scatter(self, canvas: Image.Image, rng: random.Random, *, longest: int, edge: bool) -> None:
        """Puts any object at a corner, partly outside, or anywhere."""
        glyph = rng.choice(self._glyphs()).rotate(rng.uniform(-20, 20), expand=True)
        glyph.thumbnail((longest, longest))
        near, far = -longest // 3, SIDE - longest * 2 // 3
        place = (lambda: rng.choice((near, far))) if edge else (lambda: rng.randint(near, far))
        canvas.paste(glyph, (place(), place()), glyph)

    def _glyphs(self) -> list[Image.Image]:
        if self.art is None:
            sheet = Image.open(ART).convert("RGBA")
            self.art = [sheet.crop(tuple(entry["box"])) for entry in json.loads(ART.with_suffix(".json").read_text())]
        return self.art

    def _background(self, rng: random.Random) -> Image.Image:
        kind = rng.random()
        if kind < 0.25:
            photo = Image.open(rng.choice(self.photos)).convert("RGB")
            return _detail(photo, rng).resize((SIDE, SIDE))
        if kind < 0.7:
            return _ground(rng.choice(list(STUFF)), rng)
        base = np.array([rng.randrange(256) for _ in range(3)], dtype=np.float32)
        noise = np.random.default_rng(rng.randrange(2**31)).normal(0, 1, (SIDE // 4, SIDE // 4, 3)) * rng.uniform(0, 40)
        texture = Image.fromarray(np.clip(base + noise, 0, 255).astype(np.uint8))
        return texture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _ground(kind: str, rng: random.Random) -> Image.Image:
    """A square of one texture, drawn at 1/3 to 2 times the size it is shown at."""
    side = rng.choice((64, 96, 160, 240, 320))
    texture = STUFF[kind](np.random.default_rng(rng.randrange(2**31)), (side, side))
    return Image.fromarray(np.clip(texture, 0, 255).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _detail(photo: Image.Image, rng: random.Random) -> Image.Image:
    """Anything from a detail of a scene to all of it; half of them letterboxed, as teacher crops are."""
    width, height = photo.size
    side = min(width, height) * rng.choice((0.2, 0.3, 0.4, 0.5, 0.7, 1.0)) * rng.uniform(0.85, 1.0)
    ratio = np.exp(rng.uniform(-0.4, 0.4))
    crop = _cut(photo, rng, min(width, side * ratio), min(height, side / ratio))
    return _letterbox(crop) if rng.random() < 0.5 else crop


def _whole(photo: Image.Image, rng: random.Random) -> Image.Image:
    """Most of a picture."""
    share = rng.uniform(0.7, 1.0)
    return _cut(photo, rng, photo.width * share, photo.height * share * rng.uniform(0.9, 1.0))


def _box_crop(photo: Image.Image, rng: random.Random, box: Box) -> Image.Image:
    """What a box shows, its edges moved by up to a tenth; mostly letterboxed."""
    x, y, width, height = box
    left, right = (x + width * (end + rng.uniform(-0.1, 0.1)) for end in (0, 1))
    top, bottom = (y + height * (end + rng.uniform(-0.1, 0.1)) for end in (0, 1))
    left, top = max(0, int(left)), max(0, int(top))
    right, bottom = min(photo.width, max(left + 2, int(right))), min(photo.height, max(top + 2, int(bottom)))
    crop = photo.crop((left, top, right, bottom))
    return _letterbox(crop) if rng.random() < 0.75 else crop


def _cut(photo: Image.Image, rng: random.Random, width: float, height: float) -> Image.Image:
    left, top = rng.uniform(0, photo.width - width), rng.uniform(0, photo.height - height)
    return photo.crop((int(left), int(top), int(left + width), int(top + height)))


def _letterbox(crop: Image.Image) -> Image.Image:
    side = max(crop.size)
    canvas = Image.new("RGB", (side, side))
    canvas.paste(crop, ((side - crop.width) // 2, (side - crop.height) // 2))
    return canvas


def _jitter(picture: Image.Image, rng: random.Random) -> Image.Image:
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhance(picture).enhance(rng.uniform(0.75, 1.25))
    return picture


def batches(data: Path, rows: Sequence[Crop], *, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised pictures (B, 3, 160, 160) and their row numbers, in order."""
    loader = torch.utils.data.DataLoader(CropMaker(data, rows), batch_size=batch_size, num_workers=1, prefetch_factor=4)
    for pixels, index in loader:
        yield (pixels.float() - MEAN) / STD, index
