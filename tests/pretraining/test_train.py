"""Whole pre-trainings at toy size, from each kind of data."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.support.tiny import tiny_openai_clip, tiny_timm_clip

from clipself.backbones.export import save_clip
from clipself.backbones.loading import load_clip
from clipself.data.caption_pairs import CaptionDataset, collate_captions, open_captions
from clipself.data.preprocess import Preprocess
from clipself.data.scenes.export import write_scenes
from clipself.engine.log import read_metrics
from clipself.pretraining.config import PretrainConfig
from clipself.pretraining.train import begin_anew, open_clip_to_train, pretrain, score_retrieval


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretraining")
    write_scenes(folder / "scenes", train=8, val=2, size=(64, 64))
    save_clip(tiny_openai_clip(), folder / "clip")
    captions = json.loads((folder / "scenes/annotations/captions_train.json").read_text())
    said = {row["image_id"]: row["caption"] for row in captions["annotations"]}
    files = {row["file_name"]: said[row["id"]] for row in captions["images"]}
    lines = [f"scenes/train/{file}\t{caption}\n" for file, caption in files.items()]
    (folder / "pairs.tsv").write_text("".join(["filepath\ttitle\n", *lines]))
    (folder / "shards").mkdir()
    for shard in (0, 1):
        with tarfile.open(folder / "shards" / f"{shard}.tar", "w") as held:
            for file, caption in list(files.items())[4 * shard : 4 * shard + 4]:
                add(held, file, (folder / "scenes/train" / file).read_bytes())
                text = json.dumps({"caption": caption}) if shard else caption
                add(held, f"{Path(file).stem}.{'json' if shard else 'txt'}", text.encode())
    return folder


def add(held: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    held.addfile(member, io.BytesIO(data))


@pytest.fixture(autouse=True)
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("CLIPSELF_CACHE", str(place / "cache"))


SHORT: dict[str, Any] = {
    "model": "clip", "max_steps": 2, "batch_size": 4, "workers": 0, "precision": "fp32", "device": "cpu",
    "save_every": 0, "lr": 1e-3,
}  # fmt: skip
KINDS = {
    "coco": {"annotations": "scenes/annotations/captions_train.json", "images": "scenes/train"},
    "table": {"annotations": "pairs.tsv"},
    "shards": {"annotations": "shards"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_says_the_same_pairs(kind: str, place: Path) -> None:
    source = open_captions(**KINDS[kind])
    plain = open_captions(**KINDS["coco"])
    assert len(source.names) == 8
    for index in range(8):
        image, captions = source.read(index)
        other, said = plain.read(index)
        assert image.tobytes() == other.tobytes()
        assert list(captions) == list(said)
    assert sorted(source.order("key")) == list(range(8))
    assert list(source.order("key")) == list(source.order("key")) != list(source.order("other key"))
    result = pretrain(out=place / kind, overwrite=True, **{**SHORT, **KINDS[kind]})
    assert load_clip(place / kind / "clip").identity.text is not None
    assert result.last_loss > 0


@pytest.mark.parametrize("contrast", ["softmax", "focal"])
def test_pairs_are_learned_by_heart(contrast: Any, place: Path) -> None:
    out, options = place / f"heart-{contrast}", {**SHORT, **KINDS["coco"], "max_steps": 60, "batch_size": 8, "lr": 3e-3}
    options |= {"scratch": True, "picture_area": (1.0, 1.0), "warmup_steps": 5, "evaluate_every": 60}
    labels = {"evaluate_annotations": options["annotations"], "evaluate_images": options["images"]}
    pretrain(out=out, contrast=contrast, overwrite=True, **options, **labels)
    (record,) = read_metrics(out, kind="evaluation")
    assert record["image to text R@1"] > 90
    again = score_retrieval(load_clip(out / "clip"), open_captions(**KINDS["coco"]), size=(32, 32))
    assert again["text to image R@1"] == pytest.approx(record["text to image R@1"])


def test_from_scratch_nothing_is_left_but_the_frozen_stem() -> None:
    for clip in (tiny_openai_clip(), tiny_timm_clip()):
        fresh = begin_anew(clip)
        own = clip.clip.state_dict()
        moved = [name for name, value in fresh.clip.state_dict().items() if value.ndim > 1]
        assert moved
        assert all(not torch.equal(fresh.clip.state_dict()[name], own[name]) for name in moved)
    config = PretrainConfig(annotations=Path("a"), out=Path("b"), scratch=True)
    mini = open_clip_to_train(config, torch.device("cpu"))
    packaged = load_clip()
    stem = [name for name in packaged.clip.state_dict() if ".backbone." in name]
    assert stem
    for name, value in mini.clip.state_dict().items():
        assert torch.equal(value, packaged.clip.state_dict()[name]) == (name in stem) or value.ndim < 2, name
    learning = {name for name, parameter in mini.clip.named_parameters() if parameter.requires_grad}
    assert "logit_scale" in learning
    assert not learning & set(stem)
    scale: Any = mini.clip.logit_scale
    assert float(scale.detach().exp()) == pytest.approx(1 / 0.07)


def test_what_cannot_be_is_said(place: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"annotations": Path("a"), "out": Path("b")}
    with pytest.raises(ValueError, match="hidden=1 leaves no patch"):
        PretrainConfig(**given, hidden=1.0)
    with pytest.raises(ValueError, match=r"crop_area=\(0.5, 0.1\) must ascend"):
        PretrainConfig(**given, crop_area=(0.5, 0.1))
    with pytest.raises(ValueError, match="batch_size=1 has nothing to tell a pair apart from"):
        PretrainConfig(**given, batch_size=1, accumulate=2)
    with pytest.raises(ValueError, match="image_size=33 is no multiple of the patch of 8 pixels"):
        pretrain(out=tmp_path / "run", **{**SHORT, **KINDS["coco"], "image_size": 33})
    with pytest.raises(FileNotFoundError, match="no captions at"):
        open_captions(tmp_path / "none.json")
    with pytest.raises(ValueError, match="pass images=, the folder"):
        open_captions("scenes/annotations/captions_train.json")
    with pytest.raises(ValueError, match=r"is an instances file.*pass a COCO captions file"):
        open_captions("scenes/annotations/instances_train.json", "scenes/train")
    with pytest.raises(FileNotFoundError, match=r"no \.tar shards at"):
        open_captions(tmp_path)
    (tmp_path / "pairs.tsv").write_text("a.jpg\n")
    with pytest.raises(ValueError, match=r"line 1 is .*expected a path, a tab and a caption"):
        open_captions(tmp_path / "pairs.tsv")


def test_a_damaged_pair_gives_its_place_to_the_next(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    Image.new("RGB", (40, 30), (9, 9, 9)).save(tmp_path / "good.png")
    (tmp_path / "pairs.tsv").write_text("bad.jpg\tone\ngood.png\ttwo\n")
    clip = tiny_openai_clip()
    given: dict[str, Any] = {
        "preprocess": Preprocess(mean=clip.image_mean, std=clip.image_std), "tokenizer": clip.tokenizer,
        "size": (32, 32), "area": (0.5, 1.0), "flip": 0.5,
    }  # fmt: skip
    source = open_captions(tmp_path / "pairs.tsv")
    data = CaptionDataset(source, **given)
    batch = collate_captions([data[0, 0], data[0, 1], data[1, 0]])
    assert batch.names == ("good.png", "good.png", "good.png")
    assert torch.equal(batch.tokens_BL[0], clip.tokenizer(["two"])[0])
    told = [record.message for record in caplog.records if "the next pair takes its place" in record.message]
    assert len(told) == 1
    assert "bad.jpg is not an image that can be read" in told[0]
    with pytest.raises(ValueError, match=r"bad\.jpg is not an image"):
        CaptionDataset(source, skip_unreadable=False, **given)[0]
    (tmp_path / "good.png").unlink()
    with pytest.raises(ValueError, match="none of 2 pairs in a row can be read"):
        data[0]
