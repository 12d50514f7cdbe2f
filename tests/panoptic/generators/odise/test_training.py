"""ODISE's decoders learn toy worlds by heart: from labels, and names from captions alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tests.support.panoptic import write_world
from tests.support.tiny import tiny_openai_clip

from clipself.backbones.export import save_clip
from clipself.data.panoptic import PanopticFile
from clipself.engine.log import read_metrics
from clipself.panoptic.evaluate import score_panoptic
from clipself.panoptic.generators.own import load_own_masks
from clipself.panoptic.train import train_panoptic

SMALL: dict[str, Any] = {
    "generator": {
        "image_size": 64, "channels": 32, "pixel_layers": 1, "pixel_hidden": 32, "layers": 2, "hidden": 32,
        "queries": 6, "heads": 2,
    },
    "loss": {"num_points": 128}, "batch_size": 4, "workers": 0, "save_every": 0, "warmup_steps": 0, "device": "cpu",
    "precision": "fp32", "jitter": (1.0, 1.0), "flip": 0.0, "lr": 3e-3,
}  # fmt: skip


def test_masks_and_labels_are_learnt_by_heart(tmp_path: Path) -> None:
    annotations, images = write_world(tmp_path / "world", count=4, void=False)
    save_clip(tiny_openai_clip(layers=3), tmp_path / "clip")
    run = train_panoptic(
        recipe="small-odise", annotations=annotations, images=images, out=tmp_path / "run",
        model=str(tmp_path / "clip"), max_steps=60, **SMALL,
    )  # fmt: skip
    assert run.last_loss < 0.6 * run.first_loss
    data = PanopticFile(annotations, images)
    (row,) = score_panoptic(load_own_masks(run.out), {}, data, scores=("generator",), progress=False).rows
    assert row.quality.overall.pq > 40
    assert row.miou > 60


def test_names_are_learnt_from_captions_alone(tmp_path: Path) -> None:
    """Red pictures tell of apples, yellow ones of bananas; no label says which segment is which."""
    colours = {"apple": (210, 30, 30), "banana": (230, 210, 40)}
    rows, infos, captions = [], [], []
    for place, fruit in enumerate(["apple", "banana"] * 2):
        pixels, ids = np.full((64, 64, 3), 90, dtype=np.uint8), np.full((64, 64), 1, dtype=np.uint8)
        ids[12:52, 8 + place : 48 + place] = 2
        pixels[ids == 2] = colours[fruit]
        for folder, picture in (("images", pixels), ("panoptic", np.stack([ids, ids * 0, ids * 0], -1))):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(picture).save(tmp_path / folder / f"{place}.png")
        rows.append({"id": place, "file_name": f"{place}.png", "height": 64, "width": 64})
        segments = [{"id": one, "category_id": one, "iscrowd": 0, "area": int((ids == one).sum())} for one in (1, 2)]
        infos.append({"image_id": place, "file_name": f"{place}.png", "segments_info": segments})
        captions.append({"image_id": place, "caption": f"There is one {fruit}."})
    categories = [{"id": one, "name": f"thing {one}", "isthing": 1} for one in (1, 2)]
    (tmp_path / "panoptic.json").write_text(
        json.dumps({"images": rows, "annotations": infos, "categories": categories})
    )
    (tmp_path / "captions.json").write_text(json.dumps({"images": rows, "annotations": captions}))
    save_clip(tiny_openai_clip(layers=3), tmp_path / "clip")
    run = train_panoptic(
        recipe="small-odise-caption", annotations=tmp_path / "panoptic.json", images=tmp_path / "images",
        captions=tmp_path / "captions.json", out=tmp_path / "run", model=str(tmp_path / "clip"), max_steps=40, **SMALL,
    )  # fmt: skip
    grounding = [record["caption"] for record in read_metrics(run.out)]
    assert grounding[-1] < 0.6 * grounding[0]
    generator = load_own_masks(run.out)
    for place, fruit in enumerate(["apple", "banana"] * 2):
        with Image.open(tmp_path / "images" / f"{place}.png") as opened:
            found = generator(opened.convert("RGB"), file="", names=["apple", "banana"])
        assert found.logits_QK is not None
        mask = found.masks_QYX[:, 6:10, 6:10].mean((1, 2)).argmax()  # the one in the middle
        assert ["apple", "banana"][int(found.logits_QK[mask].argmax())] == fruit
        assert not torch.isnan(found.logits_QK).any()
