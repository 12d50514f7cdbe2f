"""The official layouts of data and weights in small: three pictures a set, towers of width 64 by released names."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tests.data.test_semantic import write_archive
from tests.detection.detectors.test_published import filled, released_shapes
from tests.panoptic.test_imported import released_odise
from tests.segmentation.catseg.test_catseg import published_state as published_catseg
from tests.support.panoptic import write_world
from tests.support.segmentation import tiny_catseg
from tests.support.tiny import TEXT_CFG, tiny_eva_clip, tiny_openai_clip
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.export import save_clip
from clipself.backbones.layouts import to_official_eva
from clipself.conformance.filling import fill
from clipself.data.ov_split import write_split
from clipself.text.vocabulary import load_vocabulary
from clipself.workflows.reproduction.row import Row, Step
from clipself.workflows.reproduction.rows import TABLES

SIZE = (48, 64)
"""Height and width of every picture."""
BOXES = {"airplane": (4, 6, 24, 20), "person": (32, 10, 28, 30)}
"""Name -> xywh; the one is novel in OV-COCO, the other base."""


def tiny_config(layers: int = 4) -> dict[str, Any]:
    """open_clip's configuration of the tower that stands in for an EVA-CLIP."""
    tiny_eva_clip(layers=layers)  # makes timm know it
    vision = {
        "image_size": 64, "timm_model_name": f"clipself_test_tiny_eva_{layers}", "timm_model_pretrained": False,
        "timm_pool": "token", "timm_proj": None,
    }  # fmt: skip
    return {"embed_dim": 32, "vision_cfg": vision, "text_cfg": TEXT_CFG, "custom_text": True}


@contextmanager
def small_towers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Names of EVA-CLIP and OpenAI mean towers of width 64 meanwhile."""
    with monkeypatch.context() as patch:
        for name in ("EVA02-B-16", "EVA02-L-14-336"):
            patch.setitem(open_clip.factory._MODEL_CONFIGS, name, tiny_config())
        openai = {**tiny_openai_clip().model_cfg}
        patch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-L-14-336-quickgelu", openai)
        yield


def changed_rows(table: str, **changes: Any) -> dict[str, Any]:
    """`TABLES` with other settings in the measurements of a table, such as the size of the input."""

    def change(row: Row) -> Row:
        if row.measure is None:
            return row
        step = Step(command=row.measure.command, settings={**row.measure.settings, **changes})
        return replace(row, measure=step)

    held = TABLES[table]
    return {**TABLES, table: replace(held, rows=tuple(map(change, held.rows)))}


def eva_state(*, visual_only: bool, seed: str, clip: DenseCLIP | None = None) -> dict[str, Tensor]:
    """A release by EVA-CLIP's names: each tensor is filled by the rule of the goldens, from its name and a seed."""
    clip = clip or tiny_eva_clip(layers=4)
    names = to_official_eva(clip.clip.state_dict())
    state = {
        theirs: fill(f"{seed}.{theirs}", clip.clip.state_dict()[ours].shape)
        for ours, theirs in names.items()
        if "rope" not in ours and not (visual_only and not ours.startswith("visual."))
    }
    if not visual_only:
        state["logit_scale"] = torch.tensor(4.6)
    return state


def write_eva_weights(weights: Path) -> None:
    """The two originals, and the six refined towers without a text tower."""
    weights.mkdir(parents=True, exist_ok=True)
    for name in ("EVA02_CLIP_B_psz16_s8B", "EVA02_CLIP_L_336_psz14_s6B"):
        torch.save(eva_state(visual_only=False, seed=name), weights / f"{name}.pt")
    for tower in ("b16", "l14"):
        for way in ("clipself_patches", "clipself_proposals", "regionclip"):
            name = f"eva_vit{tower}_coco_{way}"
            torch.save({"state_dict": eva_state(visual_only=True, seed=name)}, weights / f"{name}.pt")


def draw(index: int) -> Image.Image:
    """A picture with the boxes in it."""
    pixels = np.random.default_rng(index).integers(0, 60, (*SIZE, 3), dtype=np.uint8)
    for channel, (x, y, width, height) in enumerate(BOXES.values()):
        pixels[y : y + height, x : x + width, channel] = 200
    return Image.fromarray(pixels)


def write_coco(root: Path, *, count: int = 3) -> None:
    """val2017 with its instances and panoptic labels: an airplane, a person, grass."""
    coco, labels = root / "coco", root / "coco/annotations"
    (labels / "panoptic_val2017").mkdir(parents=True)
    (coco / "val2017").mkdir()
    vocabulary, panoptic = load_vocabulary("coco_80"), load_vocabulary("coco_panoptic_133")
    number = dict(zip(panoptic.names, panoptic.ids, strict=True))
    grass = number["grass-merged"]
    images: list[dict[str, Any]] = []
    instances: list[dict[str, Any]] = []
    segments: list[dict[str, Any]] = []
    for index in range(count):
        name = f"{index + 139:012d}"
        draw(index).save(coco / f"val2017/{name}.jpg", quality=95)
        images.append({"id": index + 139, "file_name": f"{name}.jpg", "height": SIZE[0], "width": SIZE[1]})
        ids = np.full(SIZE, 7, dtype=np.int32)
        rows = [{"id": 7, "category_id": grass, "iscrowd": 0, "bbox": [0, 0, SIZE[1], SIZE[0]], "area": 9}]
        for place, (word, box) in enumerate(BOXES.items()):
            x, y, width, height = box
            ids[y : y + height, x : x + width] = 1000 + place
            told = {"category_id": number[word], "bbox": list(box), "area": width * height, "iscrowd": 0}
            rows.append({**told, "id": 1000 + place})
            corners = [x, y, x + width, y, x + width, y + height, x, y + height]
            instances.append({**told, "id": len(instances) + 1, "image_id": index + 139, "segmentation": [corners]})
        colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        Image.fromarray(colours).save(labels / f"panoptic_val2017/{name}.png")
        segments.append({"image_id": index + 139, "file_name": f"{name}.png", "segments_info": rows})
    kinds = [
        {"id": one, "name": name, "isthing": int(thing)}
        for one, name, thing in zip(panoptic.ids, panoptic.names, panoptic.is_thing, strict=True)
    ]
    held = {"images": images, "annotations": segments, "categories": kinds}
    (labels / "panoptic_val2017.json").write_text(json.dumps(held))
    names = [{"id": one, "name": name} for one, name in zip(vocabulary.ids, vocabulary.names, strict=True)]
    held = {"images": images, "annotations": instances, "categories": names}
    (labels / "instances_val2017.json").write_text(json.dumps(held))


def write_zero_shot(root: Path) -> Path:
    """OV-COCO's validation file, cut out of the official one."""
    official = root / "coco/annotations/instances_val2017.json"
    return write_split(official, root / "coco/zero-shot/instances_val2017_all_2.json", train=False, split="ov-coco")[0]


def write_lvis(root: Path) -> None:
    """LVIS v1 val: a picture of each of COCO's halves; a common class, and a rare one that is novel."""
    vocabulary, places = load_vocabulary("lvis_v1_1203"), ("train2017/000000000007", "val2017/000000000008")
    rare = next(place for place, novel in enumerate(vocabulary.is_novel) if novel)
    often = next(place for place, novel in enumerate(vocabulary.is_novel) if not novel)
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for index, place in enumerate(places):
        (root / f"lvis_v1/{place}").parent.mkdir(parents=True)
        draw(index).save(root / f"lvis_v1/{place}.jpg")
        url = f"http://images.cocodataset.org/{place}.jpg"
        images.append(
            {
                "id": index + 7, "coco_url": url, "height": SIZE[0], "width": SIZE[1], "neg_category_ids": [5],
                "not_exhaustive_category_ids": [],
            }
        )  # fmt: skip
        for label, (x, y, width, height) in zip((rare, often), BOXES.values(), strict=True):
            corners = [x, y, x + width, y, x + width, y + height, x, y + height]
            rows.append(
                {
                    "id": len(rows) + 1, "image_id": index + 7, "category_id": vocabulary.ids[label],
                    "bbox": [x, y, width, height], "area": width * height, "segmentation": [corners],
                }
            )  # fmt: skip
    kinds = [
        {"id": one, "name": name, "frequency": "r" if novel else "c"}
        for one, name, novel in zip(vocabulary.ids, vocabulary.names, vocabulary.is_novel, strict=True)
    ]
    (root / "lvis_v1/annotations").mkdir()
    held = {"images": images, "annotations": rows, "categories": kinds}
    (root / "lvis_v1/annotations/lvis_v1_val.json").write_text(json.dumps(held))


def write_segmentation(root: Path) -> None:
    """ADE20K-150, ADE20K-847 and PASCAL Context as their archives lay them out."""
    for archive, path in (
        ("ade20k-150", "ADEChallengeData2016"), ("ade20k-847", "ADE20K_2021_17_01"), ("pascal-context-59",
                                                                                      "VOCdevkit/VOC2010"),
    ):  # fmt: skip
        write_archive(root / path, archive)


def write_ade_panoptic(root: Path) -> None:
    """ADE20K's panoptic validation as the public script writes it; class ids start at 0."""
    ade = root / "ADEChallengeData2016"
    made, images = write_world(root / "world")
    pngs = ade / "ade20k_panoptic_val"
    (ade / "images/validation").mkdir(parents=True, exist_ok=True)
    shutil.move(root / "world/panoptic", pngs)
    for path in images.iterdir():
        shutil.move(path, ade / "images/validation" / path.name)
    shutil.move(made, ade / "ade20k_panoptic_val.json")


def write_fvit(path: Path, *, classes: int, masks: bool) -> None:
    """A released F-ViT at toy size, its tower in it."""
    shapes = released_shapes(tiny_eva_clip(layers=4), channels=16, masks=masks, rpn_norm=masks, classes=classes)
    torch.save({"state_dict": filled(shapes), "meta": {"epoch": 3}}, path)


def write_catseg(path: Path) -> None:
    """A released CAT-Seg v2 at toy size."""
    state = published_catseg(tiny_catseg(tiny_openai_clip(layers=6), image_size=192, window=12))
    torch.save({"model": {name: tensor.clone() for name, tensor in state.items()}, "iteration": 80000}, path)


def write_odise(weights: Path, place: Path) -> None:
    """A released ODISE at toy size, the diffusion model and the CLIP beside it, and a refined CLIP."""
    state = released_odise(place, "label")
    torch.save(state, weights / "odise_label_coco_50e-b67d2efc.pth")
    shutil.move(place / "diffusion", weights / "stable-diffusion-v1-3")
    state = {name: value.contiguous() for name, value in tiny_openai_clip().clip.state_dict().items()}
    save_file(state, weights / "openai_vit_l14_336.safetensors")
    save_clip(tiny_openai_clip(seed=5), weights / "trained/openai_vitl14_336_coco_clipself_patches/blended")
