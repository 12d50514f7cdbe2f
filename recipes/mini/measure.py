"""Measures a model of this recipe beside its teachers: crops, dense map, held-out Caltech-101, unseen phrases.

Usage: python recipes/mini/measure.py --data DATA --work WORK [--model clipself-mini-photos] [--out FOLDER]

WORK is the folder of `train.py`; only its `phrases.pt` is read. The figures of MODEL_CARD.md are printed by this.
"""

import argparse
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from crops import MEAN, SIDE, STD, is_held_out, label_of, photographs
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from phrases import load_space, vectors_of
from PIL import Image
from teachers import SentenceEncoder, imagenet_network
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor
from tqdm import tqdm

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.loading import load_clip
from clipself.backbones.text import embed_names
from clipself.data.labelled import CocoInstances, CocoPanoptic, LabelledImages, RegionSamples
from clipself.data.preprocess import Preprocess
from clipself.data.scenes import SceneImages, SceneMaker
from clipself.metrics.accuracy import MeanClassAccuracy
from clipself.regions.evaluate import score_regions
from clipself.regions.report import compare_reports

DENSE = ("boxes", "thing_masks", "stuff_masks")

Embed = Callable[[Tensor], Tensor]


class Teachers:
    """What the recipe's teachers say together: a picture's classes, and names, in the joint space."""

    def __init__(self, work: Path) -> None:
        self.network, self.encoder, self.space = imagenet_network(), SentenceEncoder(), load_space(work)
        self.imagenet_KD = vectors_of(IMAGENET_CLASSNAMES, work)

    @torch.no_grad()
    def encode_image(self, images_B3HW: Tensor) -> Tensor:
        """The mean of ImageNet's names, weighted by the network's probabilities."""
        probabilities = self.network(images_B3HW).softmax(-1)
        return F.normalize(probabilities @ self.imagenet_KD, dim=-1)

    def encode_text(self, names: list[str]) -> Tensor:
        """The sentence encoder's embeddings in the joint space."""
        return self.space(self.encoder(names))


def data_sets(data: Path, scenes: int) -> dict[str, tuple[LabelledImages, int]]:
    """Name -> labelled images that no training has seen, and the side of the dense map's input."""
    coco, pictures = data / "coco_sample/annotations", data / "coco_sample/images/val2017"
    return {
        "scenes": (SceneImages(SceneMaker(seed="held out/0"), scenes), 320),
        "COCO instances": (CocoInstances(coco / "instances_val2017.json", pictures), 480),
        "COCO panoptic": (CocoPanoptic(coco / "panoptic_val2017.json", pictures), 480),
    }


@torch.no_grad()
def score_crops(held: LabelledImages, embed: Embed, text_KD: Tensor) -> dict[str, list[float]]:
    """Mean class accuracy, top-1 / top-5, of an image embedding on the crops of things and of stuff.

    Things are scored among all names as the report does, and among the things' names alone; there plain top-1, the
    share of all crops, comes third.
    """
    samples = RegionSamples(held, preprocess=Preprocess(mean=(MEAN / 255,) * 3, std=(STD / 255,) * 3),
                            image_size=160, patch_size=16, crop_size=SIDE)  # fmt: skip
    is_stuff = ~torch.tensor(held.class_is_thing)
    kinds = ("thing crops", "stuff crops", "thing crops, things' names")
    meters = {kind: MeanClassAccuracy(len(text_KD)) for kind in kinds}
    for sample in tqdm(samples, total=len(samples), desc="crops", leave=False):
        if sample.crops_R3hw is None or not len(sample.crops_R3hw):
            continue
        scores, thing, labels = embed(sample.crops_R3hw) @ text_KD.T, sample.is_thing_R, sample.labels_R
        meters[kinds[0]].update(scores[thing], labels[thing])
        meters[kinds[1]].update(scores[~thing], labels[~thing])
        meters[kinds[2]].update(scores[thing].masked_fill(is_stuff, -1.0), labels[thing])
    found = {kind: meter.compute() for kind, meter in meters.items() if meter.counts.any()}
    return {kind: [scores[1].mean, scores[5].mean, scores[1].overall] for kind, scores in found.items()}


def held_out_photographs(data: Path) -> tuple[Tensor, list[str]]:
    """The Caltech-101 pictures that the recipe left out, whole, as the tower's input; and their names."""
    pixels, labels = [], []
    rows = [row for row in photographs(data) if is_held_out(row)]
    for shard in sorted({row["shard"] for row in rows}):
        with tarfile.open((data / "pretrain_images" / shard).with_suffix(".tar")) as tar:
            for row in rows:
                if row["shard"] != shard:
                    continue
                stream = tar.extractfile(row["member"])
                assert stream is not None
                photo = Image.open(io.BytesIO(stream.read())).convert("RGB")
                square = photo.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
                pixels.append((pil_to_tensor(square).float() - MEAN) / STD)
                labels.append(label_of(row))
    return torch.stack(pixels), labels


@torch.no_grad()
def score_caltech(data: Path, clip: DenseCLIP, teachers: Teachers) -> dict[str, float]:
    """Accuracy in percent over Caltech-101's names on the held-out photographs."""
    pixels, labels = held_out_photographs(data)
    names = sorted({label_of(row) for row in photographs(data) if row["source"] == "caltech101"})
    wanted = torch.tensor([names.index(label) for label in labels])
    found = {}
    pairs = {"model": (clip.encode_image, embed_names(clip, names, cache=False).rows_SD),
             "teachers": (teachers.encode_image, teachers.encode_text(names))}  # fmt: skip
    for title, (embed, text_KD) in pairs.items():
        unit = torch.cat([embed(piece) for piece in torch.split(pixels, 64)])
        found[title] = 100 * float(((unit @ text_KD.T).argmax(-1) == wanted).float().mean())
    return {"photographs": len(labels), "names": len(names), **found}


@torch.no_grad()
def compare_texts(work: Path, clip: DenseCLIP, teachers: Teachers, *, count: int = 200) -> dict[str, Any]:
    """The names nearest to phrases that no training has seen, by the text tower and by its teacher.

    The phrases are WordNet's nouns that `phrases.py` kept apart; the names are all class names of the vocabularies.
    """
    held = torch.load(work / "phrases.pt", weights_only=True)
    unseen, names = held["unseen"], held["texts"]["names"]
    unseen = [unseen[place * len(unseen) // count] for place in range(count)]
    mine = clip.encode_text(unseen) @ clip.encode_text(names).T
    theirs = teachers.encode_text(unseen) @ teachers.encode_text(names).T
    first, ranked = mine.argmax(-1), theirs.argsort(dim=-1, descending=True)
    place = (ranked == first[:, None]).float().argmax(-1)
    cosine = (clip.encode_text(unseen) * teachers.encode_text(unseen)).sum(-1)
    rows = [
        {
            "phrase": phrase,
            "nearest": names[first[row]],
            "teacher": names[ranked[row, 0]],
            "rank": int(place[row]) + 1,
        }
        for row, phrase in enumerate(unseen)
    ]
    return {
        "phrases": count,
        "names": len(names),
        "same name as the teacher": 100 * float((place == 0).float().mean()),
        "among its first five": 100 * float((place < 5).float().mean()),
        "among its first twenty": 100 * float((place < 20).float().mean()),
        "mean cosine": float(cosine.mean()),
        "rows": rows,
    }


def measure(data: Path, work: Path, model: str, *, scenes: int = 100) -> dict[str, Any]:
    """Everything, printed as it comes."""
    clip, teachers = load_clip(model), Teachers(work)
    texts = compare_texts(work, clip, teachers)
    found: dict[str, Any] = {"texts": texts, "Caltech-101": score_caltech(data, clip, teachers)}
    for row in texts["rows"][::5]:
        print(f"{row['phrase']:32} {row['nearest']:28} {row['teacher']:28} {row['rank']}")
    print({key: value for key, value in texts.items() if key != "rows"})
    print(found["Caltech-101"], flush=True)
    for title, (held, side) in data_sets(data, scenes).items():
        report = score_regions(clip, held, image_size=side, modes=DENSE, title=model)
        text_KD = embed_names(clip, held.class_names, cache=False).rows_SD
        found[title] = {
            "model": report.to_json(),
            "model, crops": score_crops(held, clip.encode_image, text_KD),
            "teachers, crops": score_crops(held, teachers.encode_image, teachers.encode_text(held.class_names)),
        }
        print(f"\n{title}\n{compare_reports([report])}")
        for who in ("model, crops", "teachers, crops"):
            print(f"{who}: {found[title][who]}", flush=True)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", default="clipself-mini-photos")
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    figures = measure(options.data, options.work, options.model, scenes=options.scenes)
    if options.out is not None:
        options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
