"""Seeded faults in every kind of model folder: finite numbers, or a sentence that names the folder."""

import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.families import FAMILIES
from tests.support.mutate import mutated_json, mutated_weights
from tests.support.tiny import tiny_openai_clip, tiny_resnet_clip

from clipself.backbones import load_clip, save_clip
from clipself.backbones.text import make_vocabulary
from clipself.detection.checkpoint import load_detector, save_detector
from clipself.detection.detectors.table import build_detector
from clipself.detection.recipes import detect_recipe
from clipself.panoptic.generators.own import build_mask_model, load_own_masks, save_own_masks
from clipself.panoptic.settings import OwnMasksSettings
from clipself.segmentation.checkpoint import load_segmenter, save_segmenter
from clipself.segmentation.segmenters import build_model, make_settings

FAULTS = (ValueError, OSError)
DETECTORS = (
    "fvit", "vild", "baron", "owl", "owl-dense", "ovdetr", "promptovd", "cora", "rovit", "rovit-plain", "detic",
    "detic-c4", "detic-centernet",
)  # fmt: skip
"""Families whose little detector is spoiled."""


@dataclass(frozen=True)
class Kind:
    """A folder that is whole, the files to spoil, and a use of it that gives numbers."""

    folder: Path
    weights: str
    cards: Sequence[str]
    use: Callable[[Path], torch.Tensor]


def numbers(module: Any) -> torch.Tensor:
    return torch.cat([tensor.double().flatten() for tensor in module.state_dict().values()])


def use_clip(folder: Path) -> torch.Tensor:
    clip = load_clip(folder)
    return torch.cat(
        [clip.dense_map(torch.zeros(1, 3, *clip.image_size)).flatten(), clip.encode_text(["cat"]).flatten()]
    )


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kind]:
    root = tmp_path_factory.mktemp("models")
    clip = tiny_openai_clip(layers=4)
    saved = save_clip(clip, root / "clip")
    save_clip(tiny_resnet_clip(), root / "resnet")
    card = {"model": str(saved), "pretrained": None, "text_from": None}

    for family in DETECTORS:
        told = FAMILIES[family]
        settings = detect_recipe(told.recipe or "small", detector=dict(told.options["detector"])).detector
        names = make_vocabulary(clip, ["cat", "dog"], base=["cat"], **settings.spoken)
        digest = clip.weights_hash(settings.clip_part)  # a tower that learns may be fitted to other sizes
        made = build_detector(clip, settings, names)
        save_detector(made, root / family, model=str(saved), digest=digest, card={})

    for method, sizes in (("catseg", {"hidden": 16}), ("san", {"side_width": 40, "queries": 4})):
        own = tiny_openai_clip(layers=6) if method == "catseg" else clip
        place = save_clip(own, root / f"clip-{method}")
        model = build_model(make_settings(method, **sizes), load_clip(place), crop=64)
        save_segmenter(
            model, root / method, clip={**card, "model": str(place)}, digest=own.weights_hash(), crop=64, names=["cat"]
        )

    shape = OwnMasksSettings(image_size=64, channels=32, pixel_layers=1, pixel_hidden=8, layers=1, hidden=8, queries=4)
    save_own_masks(
        root / "masks", build_mask_model(shape, clip), shape, clip=clip, clip_source=card, trained_names=["cat"]
    )
    return {
        "clip": Kind(saved, "open_clip_model.safetensors", ("open_clip_config.json", "model_card.json"), use_clip),
        "resnet": Kind(root / "resnet", "open_clip_model.safetensors", ("open_clip_config.json",), use_clip),
        **{
            family: Kind(root / family, "detector.safetensors", ("detector.json",),
                         lambda folder: numbers(load_detector(folder)))
            for family in DETECTORS
        },
        "catseg": Kind(root / "catseg", "segmenter.safetensors", ("segmenter.json",),
                       lambda folder: numbers(load_segmenter(folder)[0])),
        "san": Kind(root / "san", "segmenter.safetensors", ("segmenter.json",),
                    lambda folder: numbers(load_segmenter(folder)[0])),
        "masks": Kind(root / "masks", "mask_model.safetensors", ("mask_model.json",),
                      lambda folder: numbers(load_own_masks(folder).model)),
    }  # fmt: skip


def check(kind: Kind, *, seed: int) -> None:
    """One fault: finite numbers, or a sentence with the folder's name."""
    rng = random.Random(seed)
    spoiled = kind.folder.with_name(f"{kind.folder.name}-spoiled")
    shutil.rmtree(spoiled, ignore_errors=True)
    shutil.copytree(kind.folder, spoiled)
    if rng.random() < 0.5:
        file = kind.weights
        what, data = mutated_weights((kind.folder / file).read_bytes(), rng)
    else:
        file = rng.choice(kind.cards)
        what, data = mutated_json(json.loads((kind.folder / file).read_text()), rng)
    (spoiled / file).write_bytes(data)
    try:
        found = kind.use(spoiled)
    except FAULTS as fault:
        if not any(name in str(fault) for name in (spoiled.name, file, "text_from=")):
            raise AssertionError(f"seed {seed}, {file}: {what}: {fault}") from fault
    except Exception as error:
        raise AssertionError(f"seed {seed}, {file}: {what}: {type(error).__name__}: {error}") from error
    else:
        assert found.isfinite().all(), f"seed {seed}, {file}: {what}"


KINDS = ("clip", "resnet", *DETECTORS, "catseg", "san", "masks")


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize("kind", KINDS)
def test_a_few_faults(kinds: dict[str, Kind], kind: str) -> None:
    kinds[kind].use(kinds[kind].folder)
    for seed in range(12):
        check(kinds[kind], seed=seed)


@pytest.mark.parametrize(
    ("kind", "keys", "value", "said"),
    [
        *(pytest.param(kind, ("settings", "method"), value, "method is", id=f"{kind}-{value}")
          for kind in ("catseg", "san") for value in (None, "fancy")),
        *(pytest.param(kind, ("model_cfg", "vision_cfg", "head_width"), 10**6, "head_width is", id=f"{kind}-heads")
          for kind in ("clip", "resnet")),
    ],
)  # fmt: skip
def test_cards_that_name_nothing_that_can_be_built(
    kinds: dict[str, Kind], kind: str, keys: Sequence[str], value: Any, said: str
) -> None:
    whole = kinds[kind]
    spoiled = whole.folder.with_name(f"{kind}-edited")
    shutil.copytree(whole.folder, spoiled, dirs_exist_ok=True)
    path = spoiled / whole.cards[0]
    card = inner = json.loads(path.read_text())
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(card))
    with pytest.raises(ValueError, match=f"{path.name}: {said}"):
        whole.use(spoiled)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize("kind", KINDS)
def test_many_faults(kinds: dict[str, Kind], kind: str) -> None:
    for seed in range(1000, 1350):
        check(kinds[kind], seed=seed)
