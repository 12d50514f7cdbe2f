"""The table of segmenters, their settings and recipes, what decays, and what every one of them can do."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.support.segmentation import tiny_catseg, tiny_san
from tests.support.tiny import tiny_eva_clip, tiny_openai_clip
from torch import nn

from clipself.data.images import Picture
from clipself.segmentation.catseg.inference import CatSegInference
from clipself.segmentation.catseg.model import CatSeg, catseg_groups
from clipself.segmentation.catseg.segmenter import CatSegSegmenter
from clipself.segmentation.catseg.settings import CatSegSettings
from clipself.segmentation.config import SegmentationTrainConfig
from clipself.segmentation.recipes import SEGMENT_RECIPES, segment_recipe
from clipself.segmentation.san.model import San, san_groups
from clipself.segmentation.san.segmenter import SanSegmenter
from clipself.segmentation.san.settings import SanSettings
from clipself.segmentation.segmenter import Segmenter
from clipself.segmentation.segmenters import SEGMENTERS, build_model, make_settings
from clipself.segmentation.settings import SegmenterSettings
from clipself.segmentation.training_free.segmenter import TrainingFree
from clipself.segmentation.training_free.settings import TrainingFreeSettings

NAMES = ("cat", "a green tree", "water")


def picture(height: int = 90, width: int = 70) -> Image.Image:
    return Image.effect_noise((width, height), 80).convert("RGB")


def of_catseg() -> tuple[CatSegSegmenter, nn.Module]:
    model = tiny_catseg(tiny_openai_clip(layers=6))
    how = CatSegInference(canvas=96, window=64, classes_at_once=2)
    return CatSegSegmenter(model, ["dog"], how=how, shortest=96), model.clip.clip.visual  # type: ignore[return-value]


def of_san() -> tuple[SanSegmenter, nn.Module]:
    model = tiny_san(tiny_openai_clip(layers=4))
    return SanSegmenter(model, ["dog"], shortest=64), model.side


def of_training_free() -> tuple[TrainingFree, nn.Module]:
    clip = tiny_openai_clip()
    settings = TrainingFreeSettings(templates="simple", shortest=48, window=32, stride=16)
    return TrainingFree(clip, ["dog"], settings), clip.clip.visual  # type: ignore[return-value]


@pytest.mark.parametrize("make", [of_catseg, of_san, of_training_free])
def test_another_vocabulary_asks_for_no_second_look(make: Any) -> None:
    """What looks at pixels runs once a picture, and the answer is that of a segmenter made with those names."""
    segmenter, eye = make()
    made: Segmenter = segmenter
    looks: list[str] = []
    part = getattr(eye, "conv1", None) or eye.vit_model.patch_embed["proj"]
    part.register_forward_pre_hook(lambda *_: looks.append("look"))
    image = picture()
    made.set_image(image)
    once = len(looks)
    assert once >= 1
    for names in (NAMES, ("sky", "dog"), NAMES):
        made.use(names)
        found = made.segment()
        assert found.names == made.names == names
        assert found.labels_HW.shape == (90, 70)
        assert len(looks) == once
    fresh, _ = make()
    fresh.use(NAMES)
    again = fresh.segment(image)
    assert torch.equal(found.labels_HW, again.labels_HW)
    assert found.scores_HW is not None
    torch.testing.assert_close(found.scores_HW, again.scores_HW)


@pytest.mark.parametrize("make", [of_catseg, of_san, of_training_free])
def test_labels_are_the_best_scores_however_many_are_compared_at_once(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter, _ = make()
    segmenter.use(NAMES)
    image = picture()
    scores = torch.cat(list(segmenter.score(image)))
    assert torch.equal(segmenter.label(image), scores.argmax(0))
    monkeypatch.setattr("clipself.segmentation.segmenter.SCORES_AT_ONCE", 90 * 70)  # one map at a time
    torch.testing.assert_close(torch.cat(list(segmenter.score(image))), scores, rtol=1e-5, atol=1e-5)


def test_a_giant_is_decided_at_a_smaller_size(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter, _ = of_training_free()
    segmenter.use(NAMES)
    monkeypatch.setattr("clipself.segmentation.segmenter.MOST_DECIDED", 45 * 35)
    found = segmenter.segment(picture())
    assert found.labels_HW.shape == (90, 70)
    blocks = found.labels_HW.reshape(45, 2, 35, 2)
    assert (blocks == blocks[:, :1, :, :1]).all()


def test_pictures_of_every_kind_are_taken_and_none_is_asked_for(tmp_path: Path) -> None:
    segmenter, _ = of_training_free()
    with pytest.raises(ValueError, match="call set_image first"):
        segmenter.segment()
    with pytest.raises(ValueError, match="there are no names"):
        segmenter.use([])
    image = picture()
    image.save(tmp_path / "a.png")
    kinds: list[Picture] = [image, tmp_path / "a.png", str(tmp_path / "a.png"), image.convert("L")]
    first, *others = [segmenter.label(kind) for kind in kinds]
    assert all(torch.equal(first, other) for other in others)


def test_each_row_of_the_table_names_itself_and_is_all_there() -> None:
    for name, row in SEGMENTERS.items():
        settings = make_settings(name)
        assert type(settings) is row.settings
        assert settings.method == name
        assert type(settings).from_table(settings.to_json()) == settings
        assert SegmenterSettings.from_table({"method": name}) == settings


def test_settings_of_one_segmenter_are_not_those_of_another() -> None:
    with pytest.raises(ValueError, match=r"there is no setting segmenter\.queries"):
        CatSegSettings().changed({"queries": 3})
    assert CatSegSettings().changed({"method": "san", "queries": 3}) == SanSettings(queries=3)
    with pytest.raises(ValueError, match="unknown segmenter 'sann', expected one of"):
        make_settings("sann")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param(lambda: CatSegSettings(classes_per_step=1), "leaves nothing to tell apart", id="classes"),
        pytest.param(lambda: CatSegSettings(hidden=0), "hidden=0 must be at least 1", id="hidden"),
        pytest.param(lambda: CatSegSettings(cost_gain=float("nan")), "cost_gain=nan must be", id="gain"),
        pytest.param(lambda: CatSegSettings(class_prior=1.0), r"class_prior=1.0 is not in \(0, 1\)", id="prior"),
        pytest.param(lambda: SanSettings(side_width=0), "side_width=0 must be at least 1", id="width"),
        pytest.param(lambda: SanSettings(queries=-1), "queries=-1 must be at least 1", id="queries"),
        pytest.param(
            lambda: SanSettings(clip_scale=float("inf")), "clip_scale=inf must be a number above 0", id="scale"
        ),
        pytest.param(lambda: SanSettings(num_points=0), "num_points=0 must be at least 1", id="points"),
        pytest.param(lambda: segment_recipe("small-san", lr=0.0), "lr=0.0 must be a number above 0", id="rate"),
        pytest.param(lambda: segment_recipe("small-san", max_steps=0), "max_steps=0 must be at least 1", id="steps"),
        pytest.param(lambda: segment_recipe("small-san", crop=0), "crop=0 must be at least 1", id="crop"),
        pytest.param(lambda: segment_recipe("small-san", shortest=[0]), "shortest=", id="shortest"),
        pytest.param(lambda: segment_recipe("small-san", flip=-1), "flip=-1", id="flip"),
        pytest.param(
            lambda: segment_recipe("small-san", evaluate_every=5),
            "evaluate_every needs evaluate_annotations",
            id="eval",
        ),
    ],
)
def test_settings_that_do_not_fit_are_said(settings: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        settings()


@pytest.mark.parametrize("method", list(SEGMENTERS))
def test_sizes_that_the_clip_cannot_carry_are_said(method: str) -> None:
    """A SAN no wider than a head, a CAT-Seg no wider than its heads: built or refused in words."""
    clip = tiny_openai_clip(layers=6)
    narrow = CatSegSettings(image_size=64, hidden=6) if method == "catseg" else SanSettings(side_width=45)
    if method == "catseg":
        with pytest.raises(ValueError, match="hidden=6 is no multiple of the 4 heads"):
            build_model(narrow, clip, crop=64)
    else:
        assert build_model(narrow, clip, crop=64).settings.side.heads == 1


@pytest.mark.parametrize("method", list(SEGMENTERS))
def test_eva_towers_carry_both(method: str) -> None:
    settings = CatSegSettings(image_size=64, hidden=16) if method == "catseg" else SanSettings(side_width=40)
    model = build_model(settings, tiny_eva_clip(layers=6), crop=64).eval()
    assert isinstance(model, CatSeg | San)
    with torch.no_grad():
        out = model(torch.zeros(1, 3, 64, 64), model.embed_names(["cat", "dog"]))
    if isinstance(out, torch.Tensor):
        assert out.shape == (1, 2, 16, 16)
    else:
        assert out[0].logits_BQK.shape == (1, 100, 3)


def test_a_gain_and_a_prior_change_two_tensors_of_a_new_model() -> None:
    plain = CatSegSettings(image_size=64, hidden=16)
    told = replace(plain, cost_gain=10.0, class_prior=0.1)
    first, second = (build_model(one, tiny_openai_clip(layers=6)).state_dict() for one in (plain, told))
    changed = {name for name in first if not torch.equal(first[name], second[name])}
    assert changed == {"aggregator.conv1.weight", "aggregator.head.bias"}
    torch.testing.assert_close(second["aggregator.conv1.weight"], 10 * first["aggregator.conv1.weight"])
    shift = second["aggregator.head.bias"] - first["aggregator.head.bias"]
    torch.testing.assert_close(shift.sigmoid(), torch.tensor([0.1]))


def test_a_readout_can_be_chosen_and_a_release_has_its_own() -> None:
    clip = tiny_openai_clip(layers=6)
    told: list[dict[str, Any]] = [{}, {"readout": "value"}, {"release": 1}]
    built = [build_model(CatSegSettings(image_size=64, hidden=16, **how), clip).settings for how in told]
    assert [settings.readout for settings in built] == ["catseg", "value", "value"]
    assert [settings.aggregator.prompts for settings in built] == [1, 1, 80]
    with pytest.raises(ValueError, match="did you mean 'value'"):
        build_model(CatSegSettings(image_size=64, readout="valuex"), clip)


@pytest.mark.parametrize("factor", [100.0, 30.0])
def test_san_scales_cosines_as_told(factor: float) -> None:
    model = build_model(SanSettings(side_width=40, logit_scale=factor), tiny_openai_clip(layers=6), crop=64)
    assert isinstance(model, San)
    masks, texts = torch.eye(32)[None, :2], torch.eye(32)[:3]
    torch.testing.assert_close(model.classify(masks, texts)[0, :, :3], factor * torch.eye(2, 3))


def told_of(groups: list[dict[str, Any]], model: nn.Module) -> dict[str, tuple[float, float]]:
    """Name -> decay and share of the rate."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    told = {}
    for group in groups:
        for parameter in group["params"]:
            assert names[id(parameter)] not in told
            told[names[id(parameter)]] = (group["weight_decay"], group["lr_scale"])
    return told


def test_what_decays_and_at_which_rate_in_catseg() -> None:
    settings = CatSegSettings(image_size=64, hidden=16, train_clip="queries-values")
    model = build_model(settings, tiny_openai_clip(layers=6))
    assert isinstance(model, CatSeg)
    told = told_of(catseg_groups(model, weight_decay=0.1), model)
    assert told.keys() == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {scale for name, (_, scale) in told.items() if name.startswith("clip.")} == {0.01}
    assert {scale for name, (_, scale) in told.items() if not name.startswith("clip.")} == {1.0}
    still = {name for name, (decay, _) in told.items() if not decay}
    expected = {name for name in told if "norm" in name or ".double_conv.1." in name or ".double_conv.4." in name}
    assert still == expected


def test_what_decays_in_san() -> None:
    model = build_model(SanSettings(side_width=40), tiny_openai_clip(layers=6), crop=64)
    assert isinstance(model, San)
    told = told_of(san_groups(model, weight_decay=0.1), model)
    assert told.keys() == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    still = {name for name, (decay, _) in told.items() if not decay}
    tables = {"side.query_embed", "side.query_pos_embed", "side.vit_model.pos_embed"}
    norms = {name for name in told if ".norm1." in name or ".norm2." in name or ".input_proj.0." in name}
    assert still == tables | norms | {"clip.clip.visual.positional_embedding"}


def test_published_recipes_state_the_published_numbers() -> None:
    catseg, san = segment_recipe("catseg-b"), segment_recipe("san-b")
    assert (catseg.max_steps, catseg.batch_size, catseg.lr, catseg.clip_norm, catseg.crop) == (
        80_000, 4, 2e-4, 0.01, 384,
    )  # fmt: skip
    assert (catseg.segmenter, catseg.schedule, catseg.warmup_steps) == (
        CatSegSettings(image_size=384, train_clip="queries-values"), "cosine", 0,
    )  # fmt: skip
    assert (san.max_steps, san.batch_size, san.lr, san.schedule, san.crop) == (60_000, 32, 1e-4, "poly", 640)
    assert san.segmenter == SanSettings()
    assert san.shortest == (320, 384, 448, 512, 576, 640, 704, 768, 832, 896, 960)
    assert segment_recipe("catseg-l").segmenter == CatSegSettings(image_size=336, train_clip="queries-values")
    first = segment_recipe("catseg-v1-b").segmenter
    assert first == CatSegSettings(release=1, image_size=384, train_clip="visual-attention")
    assert all(isinstance(recipe(), SegmentationTrainConfig) for recipe in SEGMENT_RECIPES.values())
    assert {recipe().segmenter.method for recipe in SEGMENT_RECIPES.values()} == set(SEGMENTERS)


def test_no_setting_speaks_of_another_method() -> None:
    """Fields of all segmenters together, and of the run: each belongs to one place."""
    run = {field.name for field in fields(SegmentationTrainConfig)}
    for row in SEGMENTERS.values():
        own = {field.name for field in fields(row.settings)} - {"method"}
        assert not own & run, own & run
