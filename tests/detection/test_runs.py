"""Whole runs of tiny detectors: they learn, and their feature caches, checkpoints and refusals."""

import errno
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.support.detection import BASE, NAMES, tiny_settings, write_blocks
from tests.support.tiny import tiny_openai_clip, tiny_resnet_clip
from torch import Tensor

from clipself.backbones.export import save_clip
from clipself.data.detection import CocoDetection
from clipself.detection.checkpoint import WEIGHTS
from clipself.detection.config import DetectionTrainConfig
from clipself.detection.detector import Detector
from clipself.detection.evaluate import score_detector
from clipself.detection.recipes import DETECT_RECIPES
from clipself.detection.train import DetectionTask, train_detector
from clipself.engine.distributed import World
from clipself.engine.log import read_metrics
from clipself.engine.resolve import resolve


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Six steps on eight pictures."""
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    (tmp_path / "novel.txt").write_text("fish\n")
    return {
        "annotations": write_blocks(tmp_path, 8), "images": tmp_path / "pictures", "novel": tmp_path / "novel.txt",
        "model": str(save_clip(tiny_openai_clip(layers=4), tmp_path / "model")),
        "detector": tiny_settings(norm="batch"), "max_steps": 6, "batch_size": 4, "lr": 1e-3, "workers": 0,
        "precision": "fp32", "save_every": 2,
        "device": "cpu", "scales": (0.8, 1.25),
    }  # fmt: skip


def weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / WEIGHTS)


def largest_difference(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    assert one.keys() == two.keys()
    return max(float((one[name].double() - two[name].double()).abs().max()) for name in one)


def test_four_images_are_learned_by_heart(settings: dict[str, Any], tmp_path: Path) -> None:
    """Overfits base classes to AP50 above 0.9."""
    annotations = write_blocks(tmp_path / "four", 4, most=2)
    settings |= {
        "annotations": annotations, "images": tmp_path / "four" / "pictures", "max_steps": 200, "lr": 4e-3,
        "scales": (1.0, 1.0), "flip": 0.0, "save_every": 0, "schedule": "cosine", "warmup_steps": 20,
        "detector": tiny_settings(fusion="none", alpha=0.0, channels=32, box_width=64),
    }  # fmt: skip
    settings.pop("novel")
    result = train_detector(out=tmp_path / "run", **settings)
    assert result.last_loss < 0.25 * result.first_loss
    data = CocoDetection(annotations, tmp_path / "four" / "pictures", train=False)
    report = score_detector(Detector.from_checkpoint(tmp_path / "run", device="cpu"), data, progress=False)
    assert report.summary["AP50 all"] > 90.0


def test_pictures_with_rare_classes_are_drawn_more_often(settings: dict[str, Any], tmp_path: Path) -> None:
    """By the largest root of what a class of theirs lacks to the share."""
    config = resolve(DetectionTrainConfig, DETECT_RECIPES, None, out=tmp_path / "run", repeat_below=0.6, **settings)
    world = World(rank=0, size=1, device=torch.device("cpu"))
    task = DetectionTask(config, world)
    labels = [set(task.source.labels(index).tolist()) for index in range(len(task.source))]
    images = {label: sum(label in held for held in labels) for held in labels for label in held}
    expected = [max(max(1.0, math.sqrt(0.6 * len(labels) / images[label])) for label in held) for held in labels]
    assert len(set(expected)) > 1
    torch.testing.assert_close(task.data().weights, torch.tensor(expected))
    assert DetectionTask(replace(config, repeat_below=0.0), world).data().weights is None


def test_workers_and_a_feature_cache_change_nothing_but_the_work(settings: dict[str, Any], tmp_path: Path) -> None:
    settings |= {"views": 2}
    train_detector(out=tmp_path / "plain", **settings)
    train_detector(out=tmp_path / "workers", **{**settings, "workers": 2})
    assert largest_difference(weights(tmp_path / "plain"), weights(tmp_path / "workers")) == 0.0
    for run in ("filling", "filled"):
        train_detector(out=tmp_path / run, feature_cache=tmp_path / "taps", **settings)
    assert largest_difference(weights(tmp_path / "filling"), weights(tmp_path / "filled")) == 0.0
    losses = [[record["loss"] for record in read_metrics(tmp_path / run)] for run in ("plain", "filled")]
    assert losses[0][0] == pytest.approx(losses[1][0], abs=1e-3)  # the store is float16
    assert losses[0] == pytest.approx(losses[1], abs=0.1)  # from then on a proposal may change places with its equal


@pytest.mark.parametrize("change", ["turned in place", "other novel class", "with empty images"])
def test_a_feature_cache_is_never_that_of_other_pictures(settings: dict[str, Any], tmp_path: Path, change: str) -> None:
    """The same folder of taps, filled for other pictures of the same number, changes nothing."""
    settings |= {"views": 1, "max_steps": 3, "save_every": 0}
    train_detector(out=tmp_path / "first", feature_cache=tmp_path / "taps", **settings)
    if change == "turned in place":
        for path in sorted((tmp_path / "pictures").iterdir()):
            Image.open(path).transpose(Image.Transpose.ROTATE_180).save(path)
    elif change == "other novel class":
        (tmp_path / "novel.txt").write_text("cat\n")
    else:
        settings["keep_empty"] = True
    train_detector(out=tmp_path / "fresh", feature_cache=tmp_path / "other-taps", **settings)
    train_detector(out=tmp_path / "again", feature_cache=tmp_path / "taps", **settings)
    losses = [[record["loss"] for record in read_metrics(tmp_path / run)] for run in ("first", "fresh", "again")]
    assert losses[1] == losses[2]
    assert losses[0] != losses[1] or change == "with empty images"


def test_a_feature_cache_that_does_not_fit_on_the_disk_is_refused_when_it_is_made(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, start: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match=r"no space left for the 0 MiB of .*taps-\w+\.f16"):
        train_detector(out=tmp_path / "run", feature_cache=tmp_path / "taps", **{**settings, "views": 1})


def test_a_feature_cache_of_a_pyramid_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    settings["model"] = str(save_clip(tiny_resnet_clip(), tmp_path / "resnet"))
    with pytest.raises(ValueError, match="feature_cache holds taps of one size"):
        train_detector(out=tmp_path / "run", feature_cache=tmp_path / "taps", **{**settings, "views": 1})


def test_a_checkpoint_holds_the_heads_alone_and_knows_its_backbone(settings: dict[str, Any], tmp_path: Path) -> None:
    train_detector(out=tmp_path / "run", text_from=settings["model"], **settings)
    assert not any(name.startswith("backbone") for name in weights(tmp_path / "run"))
    detector = Detector.from_checkpoint(tmp_path / "run", device="cpu")
    assert detector.trained_names == list(BASE)
    assert detector.model.vocabulary.names == NAMES
    with pytest.raises(ValueError, match="was trained on another CLIP than"):
        Detector.from_checkpoint(tmp_path / "run", clip=tiny_openai_clip(5, layers=4), device="cpu")
    with pytest.raises(FileNotFoundError, match=r"no detector\.json with detector\.safetensors in"):
        Detector.from_checkpoint(tmp_path / "nothing", device="cpu")
    card = json.loads((tmp_path / "run" / "detector.json").read_text())
    assert card["text_from"] == card["model"] == os.path.relpath(settings["model"], tmp_path / "run")
    old = {key: card[key] for key in ("settings", "model", "pretrained", "names", "base")}
    old |= {"format": "clipself detector 1", "backbone_hash": card["clip_digest"]}
    (tmp_path / "run" / "detector.json").write_text(json.dumps(old))
    assert Detector.from_checkpoint(tmp_path / "run", device="cpu").trained_names == list(BASE)
    card["settings"]["channels"] = 8
    (tmp_path / "run" / "detector.json").write_text(json.dumps(card))
    with pytest.raises(
        ValueError,
        match=r"detector\.safetensors does not fit.*\n.*of another shape(.|\n)*its own settings in detector\.json",
    ):
        Detector.from_checkpoint(tmp_path / "run", device="cpu")


def test_masks_and_evaluation_while_training(settings: dict[str, Any], tmp_path: Path) -> None:
    settings |= {
        "detector": tiny_settings(mask_convs=1, score_threshold=0.001, federated_classes=2), "evaluate_every": 3,
        "evaluate_annotations": settings["annotations"], "evaluate_images": settings["images"], "evaluate_limit": 2,
    }  # fmt: skip
    train_detector(out=tmp_path / "run", **settings)
    records = read_metrics(tmp_path / "run", kind="evaluation")
    assert [record["step"] for record in records] == [3, 6]
    assert "AP50 novel" in records[0]
    assert {"objectness", "anchor_boxes", "classes", "boxes", "masks"} <= set(read_metrics(tmp_path / "run")[0])


def test_folders_and_settings_that_do_not_fit(settings: dict[str, Any], tmp_path: Path) -> None:
    train_detector(out=tmp_path / "run", **{**settings, "max_steps": 1})
    with pytest.raises(FileExistsError, match="already holds a run; go on with it by resume"):
        train_detector(out=tmp_path / "run", **settings)
    with pytest.raises(ValueError, match="a run with other settings"):
        train_detector(out=tmp_path / "run", resume=True, **{**settings, "lr": 0.5})
    for changes, message in (
        ({"split": "ov-coco"}, "already names base and novel classes"),
        ({"feature_cache": tmp_path}, "feature_cache needs views="),
        ({"evaluate_every": 2}, "evaluate_every needs evaluate_annotations"),
        ({"lr": 0.0}, r"lr=0\.0 must be a number above 0"),
        ({"accumulate": 0}, "accumulate=0 must be at least 1"),
        ({"detector": {"chanels": 8}}, r"did you mean 'channels'"),
        ({"scales": (2.0, 1.0)}, "must ascend and be above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            train_detector(out=tmp_path / "other", **{**settings, **changes})
