"""SAN: published counts and names, both heads, what learns."""

from dataclasses import replace

import pytest
import torch
from tests.support.segmentation import tiny_san
from tests.support.tiny import tiny_eva_clip, tiny_openai_clip
from torch import Tensor

from clipself.backbones.loading import blank_clip
from clipself.conformance.filling import fill
from clipself.engine.distributed import World
from clipself.engine.step import Step
from clipself.losses.mask_classification import MaskPredictions
from clipself.segmentation.san.loss import SanLoss, class_masks
from clipself.segmentation.san.model import San, build_san, format_bias, pool_bias, san_settings, semantic_scores
from clipself.segmentation.san.published import read_san
from clipself.segmentation.san.segmenter import SanSegmenter
from clipself.segmentation.san.settings import SanSettings
from clipself.structures import SemanticBatch


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "trainable", "side", "fusion"),
    [
        pytest.param("ViT-B-16", 8.37, 8.22, {0: 0, 3: 1, 6: 2, 9: 3}, id="B"),
        pytest.param("ViT-L-14-336", 9.32, None, {0: 0, 6: 1, 12: 2, 18: 3}, id="L"),
    ],
)
def test_published_counts_of_parameters(
    name: str, trainable: float, side: float | None, fusion: dict[int, int]
) -> None:
    with torch.device("meta"):
        clip = blank_clip(name)
        model = San(clip, san_settings(clip))
        trained = build_san(clip, SanSettings(), crop=640)
    assert model.side.settings.fusion == fusion
    assert trained.settings == model.settings
    assert sum(p.numel() for p in model.learning()) / 1e6 == pytest.approx(trainable, abs=0.005)
    if side is not None:
        assert sum(p.numel() for p in model.side.parameters()) / 1e6 == pytest.approx(side, abs=0.005)


def published_state(model: San) -> dict[str, Tensor]:
    """A checkpoint as the release would write it, filled by rule."""
    names, split = {}, model.split
    for name in model.clip.clip.state_dict():
        if name == "logit_scale":
            continue
        if not name.startswith("visual."):
            names[name] = f"ov_classifier.{name}"
            continue
        part = name.removeprefix("visual.").removeprefix("transformer.")
        if part.startswith("resblocks."):
            _, block, inner = part.split(".", 2)
            late = int(block) >= split
            room = "clip_rec_head" if late else "clip_visual_extractor"
            names[name] = f"{room}.resblocks.{int(block) - split * late}.{inner}"
        else:
            names[name] = (
                f"{'clip_rec_head' if part.startswith(('ln_post', 'proj')) else 'clip_visual_extractor'}.{part}"
            )
    shapes = {names[name]: tensor.shape for name, tensor in model.clip.clip.state_dict().items() if name in names}
    shapes |= {f"side_adapter_network.{name}": tensor.shape for name, tensor in model.side.state_dict().items()}
    shapes["ov_classifier.bg_embed"] = model.bg_embed.shape
    return {**{name: fill(name, shape) for name, shape in shapes.items()}, "criterion.empty_weight": torch.ones(5)}


def test_a_checkpoint_with_published_names_loads_strictly() -> None:
    model = tiny_san(tiny_openai_clip(layers=4))
    state = published_state(model)
    read = read_san(state, model.settings, source="filled by rule", heads=2)
    assert torch.equal(read.bg_embed, state["ov_classifier.bg_embed"])
    ours = read.clip.clip.state_dict()["visual.transformer.resblocks.3.ln_1.bias"]
    assert torch.equal(ours, state["clip_rec_head.resblocks.1.ln_1.bias"])
    with torch.no_grad():
        (found,) = read(noise(1, 3, 64, 64), read.embed_names(["cat", "dog"]))
    assert found.logits_BQK.shape == (1, 6, 3)
    del state["side_adapter_network.query_embed"]
    with pytest.raises(ValueError, match=r"1 missing: query_embed"):
        read_san(state, model.settings, source="a file", heads=2)
    with pytest.raises(ValueError, match="it is no SAN checkpoint"):
        read_san({"backbone.weight": torch.zeros(1)}, model.settings, source="a file")


@torch.no_grad()
def test_the_factor_of_the_cosines_is_the_checkpoints() -> None:
    state = published_state(San(tiny_openai_clip(layers=4)))
    for logarithm, factor in ((None, 100.0), (torch.tensor(3.0), 20.0855), (torch.tensor(4.60517), 100.0)):
        held = state if logarithm is None else {**state, "ov_classifier.logit_scale": logarithm}
        read = read_san(held, source="filled by rule", heads=2)
        one_11D = torch.nn.functional.normalize(read.bg_embed, dim=-1)[None]
        assert read.classify(one_11D, one_11D[0])[0, 0, 0].item() == pytest.approx(factor, rel=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("family", ["openai", "eva"])
def test_both_forms_of_the_head_are_one(family: str) -> None:
    clip = tiny_openai_clip(layers=4) if family == "openai" else tiny_eva_clip(layers=4)
    model = tiny_san(clip)
    images = noise(2, 3, 64, 96)
    features = model.extract(images)
    (proposals,) = model.side(images, features.taps, depths=(3,))
    by_query = model.recognise(features, proposals, head="queries")
    torch.testing.assert_close(by_query, model.recognise(features, proposals, head="all"))
    torch.testing.assert_close(by_query.norm(dim=-1), torch.ones(2, 6))


def test_who_may_look_at_whom() -> None:
    bias = pool_bias(noise(1, 2, 3, 4, 4), (2, 2))
    torch.testing.assert_close(bias[0, 0, 0, 3], noise(1, 2, 3, 4, 4)[0, 0, 0, 2:, 2:].max())
    whole = format_bias(bias)[0, 0]
    assert whole.shape == (8, 8)
    assert torch.equal(whole[:3, :3], torch.full((3, 3), -100.0).fill_diagonal_(0.0))
    assert (whole[:3, 3] == -100).all()
    torch.testing.assert_close(whole[:3, 4:], bias[0, 0])
    assert (whole[3:, :3] == -100).all()
    assert (whole[3:, 3:] == 0).all()


def test_semantic_scores_are_the_sum_over_queries() -> None:
    found = MaskPredictions(logits_BQK=noise(1, 4, 4), masks_BQYX=noise(1, 4, 5, 5, seed=1))
    scores = semantic_scores(found, size=(5, 5))
    soft = found.logits_BQK.softmax(-1)
    for t in range(3):
        expected = sum(soft[0, q, t] * found.masks_BQYX[0, q].sigmoid() for q in range(4))
        torch.testing.assert_close(scores[0, t], expected)


def test_one_step_moves_what_learns_and_clip_stays() -> None:
    model = tiny_san(tiny_openai_clip(layers=4)).train()
    loss = SanLoss(model, ["cat", "dog", "sky"], ignore_label=255)
    labels = torch.randint(0, 3, (2, 64, 64), generator=torch.Generator().manual_seed(0))
    labels[:, :8] = 255
    batch = SemanticBatch(pixels_B3HW=255 * torch.rand(2, 3, 64, 64), labels_BHW=labels, names=("a", "b"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.learning(), lr=0.01)
    world = World(rank=0, size=1, device=torch.device("cpu"))
    totals = {name: torch.as_tensor(value) for name, value in loss.counts(batch).items()}
    terms = loss.losses(model, batch, Step(number=0, seed=0, totals=totals, world=world))
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in model.learning())
    optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in moved if name.startswith("clip.")} == {"clip.clip.visual.positional_embedding"}
    assert "bg_embed" in moved
    assert any(name.startswith("side.mask_decoder") for name in moved)


def test_a_new_side_network_has_clips_patches_where_they_fill_the_picture() -> None:
    side = build_san(tiny_openai_clip(layers=4), SanSettings(), crop=64).side
    assert side.settings.patch == 8
    assert side.vit_model.pos_embed.shape[1] == 8 * 8


def test_masks_of_classes() -> None:
    targets = class_masks(torch.tensor([[0, 2], [255, 2]]), ignore_label=255)
    assert targets.labels_N.tolist() == [0, 2]
    assert targets.masks_NHW.tolist() == [[[True, False], [False, False]], [[False, True], [False, True]]]


def test_classes_in_groups_give_the_same_labels() -> None:
    from PIL import Image

    model = tiny_san(tiny_openai_clip(layers=4))
    image = Image.effect_noise((90, 70), 80).convert("RGB")
    names = ["cat", "dog", "sky", "grass", "a car"]
    whole = SanSegmenter(model, names, shortest=64).segment(image)
    assert whole.labels_HW.shape == (70, 90)
    scores = torch.cat(list(SanSegmenter(model, names, shortest=64, classes_at_once=2).score(image)))
    assert torch.equal(whole.labels_HW, scores.argmax(0))
    torch.testing.assert_close(whole.scores_HW, scores.amax(0))


def test_settings_that_do_not_fit_are_said() -> None:
    with pytest.raises(ValueError, match="must leave a block of 2 to recognise"):
        tiny_san(tiny_openai_clip(layers=2))


def test_the_input_of_clip_is_whole_patches_that_lie_where_the_picture_does() -> None:
    """0.7 of 96 is 67.2 pixels, 8 patches of 8 and a rest: resized by default, cut off as published."""
    model = tiny_san(tiny_openai_clip(layers=4))
    images = torch.linspace(0, 1, 96).expand(1, 3, 96, 96)
    model.clip_scale = 0.7
    resized = model.shrink(images)
    model.settings = replace(model.settings, cut_remainder=True)
    cut = model.shrink(images)
    assert resized.shape == cut.shape == (1, 3, 64, 64)
    assert resized[0, 0, 0, -1] > 0.98
    assert cut[0, 0, 0, -1] < 0.96
