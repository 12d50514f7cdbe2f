"""Pictures for the image tower: random crops of photographs, single objects of the scene art, kinds of ground."""

import csv
import io
import json
import random
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from clipself.data.scenes.textures import STUFF

SIDE = 160
MEAN, STD = 127.0, 128.0  # what the ImageNet network was trained with
CROPS_EACH = {"caltech101": 2, "imagenet_sample": 6, "tiny_imagenet": 1, "coco": 36}
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


def plan(data: Path) -> list[tuple[str, str, str, str]]:
    """(source, container, member, label) of every crop to be made, shuffled with a fixed seed."""
    rows: list[tuple[str, str, str, str]] = []
    for row in photographs(data):
        if not is_held_out(row):
            rows += [(row["source"], row["shard"], row["member"], label_of(row))] * CROPS_EACH[row["source"]]
    for path in sorted((data / "coco_sample/images/train2017").glob("*.jpg")):
        rows += [("coco", "", path.name, "")] * CROPS_EACH["coco"]
    for place, entry in enumerate(json.loads(ART.with_suffix(".json").read_text())):
        rows += [("art", "", str(place), entry["name"])] * ART_EACH
    for kind in STUFF:
        rows += [("stuff", "", kind, kind)] * STUFF_EACH
    random.Random(0).shuffle(rows)
    return rows


class CropMaker(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Decodes, crops, flips and jitters; row i is always the same picture."""

    def __init__(self, data: Path, rows: list[tuple[str, str, str, str]]) -> None:
        self.data, self.rows = data, rows
        self.tars: dict[str, tarfile.TarFile] = {}
        self.photos = sorted((data / "coco_sample/images/train2017").glob("*.jpg"))
        self.art: list[Image.Image] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        source, container, member, _ = self.rows[index]
        rng = random.Random(index)
        if source == "art":
            picture = self._object(int(member), rng)
        elif source == "stuff":
            picture = self._texture(member, rng)
        else:
            picture = _random_crop(self._photo(source, container, member), rng, source)
        if rng.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        picture = _jitter(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC), rng)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous(), index

    def _photo(self, source: str, container: str, member: str) -> Image.Image:
        if source == "coco":
            return Image.open(self.data / "coco_sample/images/train2017" / member).convert("RGB")
        if container not in self.tars:
            path = self.data / "pretrain_images" / container
            self.tars[container] = tarfile.open(  # noqa: SIM115  kept open for the worker's life
                path if path.suffix == ".tar" else path.with_suffix(".tar")
            )
        stream = self.tars[container].extractfile(member)
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
            return _random_crop(photo, rng, "coco").resize((SIDE, SIDE))
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


def _random_crop(photo: Image.Image, rng: random.Random, source: str) -> Image.Image:
    width, height = photo.size
    if source == "coco":  # scenes: anything from a detail to the whole
        side = min(width, height) * rng.choice((0.2, 0.3, 0.4, 0.5, 0.7, 1.0)) * rng.uniform(0.85, 1.0)
        ratio = np.exp(rng.uniform(-0.4, 0.4))
        crop_width, crop_height = min(width, side * ratio), min(height, side / ratio)
    else:  # one labelled subject: keep most of it
        share = rng.uniform(0.7, 1.0)
        crop_width, crop_height = width * share, height * share * rng.uniform(0.9, 1.0)
    left, top = rng.uniform(0, width - crop_width), rng.uniform(0, height - crop_height)
    crop = photo.crop((int(left), int(top), int(left + crop_width), int(top + crop_height)))
    if source == "coco" and rng.random() < 0.5:  # letterboxed, as teacher crops are
        return _letterbox(crop)
    return crop


def _letterbox(crop: Image.Image) -> Image.Image:
    side = max(crop.size)
    canvas = Image.new("RGB", (side, side))
    canvas.paste(crop, ((side - crop.width) // 2, (side - crop.height) // 2))
    return canvas


def _jitter(picture: Image.Image, rng: random.Random) -> Image.Image:
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhance(picture).enhance(rng.uniform(0.75, 1.25))
    return picture


def batches(data: Path, rows: list[tuple[str, str, str, str]], *, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised pictures (B, 3, 160, 160) and their row numbers, in order."""
    loader = torch.utils.data.DataLoader(CropMaker(data, rows), batch_size=batch_size, num_workers=1, prefetch_factor=4)
    for pixels, index in loader:
        yield (pixels.float() - MEAN) / STD, index
