"""CAT-Seg: published counts and names, what learns, windows, and memory over many classes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.support.segmentation import tiny_catseg
from tests.support.tiny import tiny_eva_clip, tiny_openai_clip
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import resnet101
from torchvision.models.feature_extraction import create_feature_extractor

from clipself.backbones.loading import blank_clip
from clipself.conformance.filling import fill
from clipself.segmentation.catseg.appearance import ResNetGuidance, SwinGuidance
from clipself.segmentation.catseg.inference import CatSegInference, score_picture
from clipself.segmentation.catseg.model import CatSeg, catseg_settings, choose_learning, fitting_window
from clipself.segmentation.catseg.published import published_names, read_catseg
from clipself.segmentation.catseg.settings import TrainClip
from clipself.segmentation.streamed_argmax import streamed_argmax


def millions(parameters: Any) -> float:
    count: int = sum(parameter.numel() for parameter in parameters)
    return count / 1e6


def picture(*size: int, seed: int = 0) -> Tensor:
    return 255 * torch.rand(3, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "aggregator", "upsamplers", "clip", "total", "taps"),
    [
        pytest.param("ViT-B-16", 2.31, 2.36, 20.4, 25.1, (3, 7), id="B"),
        pytest.param("ViT-L-14-336", 2.64, 3.15, 64.5, 70.3, (7, 15), id="L"),
    ],
)
def test_published_counts_of_parameters(
    name: str, aggregator: float, upsamplers: float, clip: float, total: float, taps: tuple[int, int]
) -> None:
    with torch.device("meta"):
        stock = blank_clip(name)
        model = CatSeg(stock, catseg_settings(stock))
        head, backbone = choose_learning(model, "queries-values")
    assert model.settings.taps == taps
    assert millions(model.aggregator.parameters()) == pytest.approx(aggregator, abs=0.005)
    both = [*model.upsample1.parameters(), *model.upsample2.parameters()]
    assert millions(both) == pytest.approx(upsamplers, abs=0.005)
    assert millions(backbone) == pytest.approx(clip, abs=0.06)
    assert millions(head) + millions(backbone) == pytest.approx(total, abs=0.06)


def test_published_sizes_of_the_first_release() -> None:
    with torch.device("meta"):
        stock = blank_clip("ViT-B-16")
        model = CatSeg(stock, catseg_settings(stock, release=1), appearance=nn.Identity())
    assert millions(model.aggregator.parameters()) == pytest.approx(3.49, abs=0.005)
    assert not hasattr(model, "upsample1")


def test_the_first_release_is_guided_by_a_resnet(tmp_path: Path) -> None:
    """Of torchvision's file its last stage and its classes stay behind; its maps are torchvision's own."""
    stock = resnet101().eval()
    torch.save(stock.state_dict(), tmp_path / "resnet101.pth")
    guidance = ResNetGuidance(grid=4)
    guidance.start_from(tmp_path / "resnet101.pth")
    images = torch.randn(1, 3, 64, 64)
    maps = guidance.maps(images)
    assert [tuple(one.shape[1:]) for one in maps] == [(1024, 4, 4), (512, 8, 8), (256, 16, 16)]
    nodes = {"layer3": "coarse", "layer2": "middle", "layer1": "fine"}
    theirs = create_feature_extractor(stock, nodes)(images)
    for ours, name in zip(maps, nodes.values(), strict=True):
        torch.testing.assert_close(ours, theirs[name], rtol=1e-4, atol=1e-5)


def test_larger_towers_are_guided_by_a_swin_transformer(tmp_path: Path) -> None:
    """Against timm's own stages, from a file with the last stage and the classes of a classifier."""
    sizes: dict[str, Any] = {"embed_dim": 8, "heads": (1, 2, 4), "window": 2, "depths": (2, 2, 2)}
    stock = SwinTransformer(
        img_size=64, num_classes=5, embed_dim=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window_size=2
    ).eval()  # fmt: skip
    merged = {name: value for name, value in stock.state_dict().items() if ".downsample." not in name}
    for name, value in stock.state_dict().items():
        if ".downsample." in name:  # timm merges ahead of a stage, the released files behind the one before
            stage = int(name.split(".")[1])
            merged[name.replace(f"layers.{stage}.", f"layers.{stage - 1}.")] = value
    torch.save({"model": merged}, tmp_path / "swin.pth")
    guidance = SwinGuidance(grid=4, sizes=sizes).eval()
    guidance.start_from(tmp_path / "swin.pth")
    images = torch.randn(1, 3, 64, 64)
    maps, theirs = guidance.maps(images), stock.patch_embed(images)
    for stage, ours in zip(list(stock.layers)[:3], reversed(maps), strict=True):
        theirs = stage(theirs)
        normed = F.layer_norm(theirs, theirs.shape[-1:]).permute(0, 3, 1, 2)
        torch.testing.assert_close(ours, normed, rtol=1e-4, atol=1e-5)
    assert [tuple(one.shape[1:]) for one in maps] == [(32, 4, 4), (16, 8, 8), (8, 16, 16)]
    assert not guidance.learns


def test_the_first_release_on_a_tower_of_patches_of_14_sees_24_of_16() -> None:
    """L/14 at 336 px has 24 patches a side, and its second backbone sees 384 px."""
    with torch.device("meta"):
        clip = blank_clip("ViT-L-14")
        settings = catseg_settings(clip, release=1)
    assert (settings.appearance, settings.image_size) == ("swin_b", 336)
    assert settings.aggregator is not None
    assert (settings.aggregator.guidance_channels, settings.aggregator.decoder_guidance_channels) == (512, (256, 128))
    with torch.device("meta"):
        maps = SwinGuidance(grid=24)(torch.zeros(1, 3, 336, 336, device="meta"))
    assert [tuple(one.shape[1:]) for one in maps] == [(512, 24, 24), (256, 48, 48), (128, 96, 96)]


def published_state(model: CatSeg) -> dict[str, Tensor]:
    """A checkpoint as the release would write it, filled by rule: split attention, window masks and all."""
    choose_learning(model, "queries-values")
    names, skipped = published_names(model), ("logit_scale",)
    state = {
        names[name]: fill(names[name], tuple(parameter.shape))
        for name, parameter in model.named_parameters()
        if not name.endswith(skipped)
    }
    for layer in range(2):
        state[f"sem_seg_head.predictor.transformer.layers.{layer}.swin_block.block_2.attn_mask"] = torch.zeros(
            4, 16, 16
        )
    return state


def test_a_checkpoint_with_published_names_loads_strictly_and_gives_its_own_numbers() -> None:
    model = tiny_catseg(tiny_openai_clip(layers=6), image_size=192, window=12)
    state = published_state(model)
    read = read_catseg(state, source="filled by rule", heads=2)
    assert read.settings.image_size == model.settings.image_size
    assert read.settings.aggregator == model.settings.aggregator
    names = published_names(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if names[name] in state:
                parameter.copy_(state[names[name]])
        images, texts = torch.randn(1, 3, 192, 192), read.embed_names(["cat", "a dog"])
        embedding = read.clip.clip.state_dict()["token_embedding.weight"]
        assert torch.equal(embedding, state["sem_seg_head.predictor.clip_model.token_embedding.weight"])
        torch.testing.assert_close(read(images, texts), model(images, texts))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param("drop", r"1 missing: head\.bias", id="missing"),
        pytest.param("add", "no place for", id="left-over"),
        pytest.param("foreign", "no CAT-Seg checkpoint", id="another-model"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(change: str, said: str) -> None:
    state = published_state(tiny_catseg(tiny_openai_clip(layers=6)))
    if change == "drop":
        del state["sem_seg_head.predictor.transformer.head.bias"]
    elif change == "add":
        state["backbone.stem.conv1.weight"] = torch.zeros(1)
    else:
        state = {name: value for name, value in state.items() if ".predictor.transformer." not in name}
    with pytest.raises(ValueError, match=said):
        read_catseg(state, source="a file", heads=2)


def test_one_step_moves_queries_and_values_of_both_towers_and_nothing_else_of_clip() -> None:
    model = tiny_catseg(tiny_openai_clip(layers=6))
    head, backbone = choose_learning(model, "queries-values")
    before = {name: value.clone() for name, value in model.clip.clip.state_dict().items()}
    optimizer = torch.optim.AdamW([*head, *backbone], lr=0.1, weight_decay=0.1)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model(images, ["cat", "dog", "grass"], pooling=2).square().mean().backward()
    optimizer.step()
    moved = {name for name, value in model.clip.clip.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if name.endswith(("original0", "original2"))}
    assert len([name for name in moved if name.startswith("visual.")]) == 12
    last: Any = model.clip.trunk.parts[-1]
    assert (
        last.attn.parametrizations.in_proj_weight.original0.grad.abs().max() == 0.0
    )  # no gradient reaches it, and it decays all the same


def test_splitting_the_attention_changes_no_number() -> None:
    for clip in (tiny_openai_clip(layers=6), tiny_eva_clip(layers=6)):
        images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        before = clip.dense_map(images)
        model = tiny_catseg(clip)
        assert choose_learning(model, "queries-values")[1]
        torch.testing.assert_close(clip.dense_map(images), before)


def test_visual_attention_and_positions_learn_in_the_first_release() -> None:
    model = tiny_catseg(tiny_openai_clip(layers=6))
    _, backbone = choose_learning(model, "visual-attention")
    names = {name for name, parameter in model.clip.clip.named_parameters() if parameter.requires_grad}
    assert len(names) == len(backbone) == 6 * 4 + 1
    assert all(".attn." in name or name == "visual.positional_embedding" for name in names)


@torch.no_grad()
@pytest.mark.parametrize("classes_at_once", [1, 3, 64])
def test_classes_in_groups_give_the_same_numbers(classes_at_once: int) -> None:
    model = tiny_catseg(tiny_openai_clip(layers=6))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    texts = F.normalize(torch.randn(7, 1, 32, generator=torch.Generator().manual_seed(1)), dim=-1)
    whole = model(images, texts, pooling=2)
    torch.testing.assert_close(model(images, texts, pooling=2, classes_at_once=classes_at_once), whole)


@torch.no_grad()
def test_a_cap_keeps_the_nearest_classes_and_none_is_the_default() -> None:
    model = tiny_catseg(tiny_openai_clip(layers=6))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    texts = F.normalize(torch.randn(300, 1, 32, generator=torch.Generator().manual_seed(1)), dim=-1)
    assert (model(images, texts) > -100).all()  # 300 are more than the published 256
    capped = model(images, texts, class_cap=4)
    kept = (capped[0] > -100).flatten(1).any(1).nonzero().flatten()
    dense = model.read_clip(images).dense
    assert dense is not None
    nearest = torch.einsum("bdyx,td->tyx", F.normalize(dense, dim=1), texts[:, 0]).flatten(1).amax(1).topk(4).indices
    assert set(kept.tolist()) == set(nearest.tolist())
    torch.testing.assert_close(capped[:, kept], model(images, texts[kept]))


@torch.no_grad()
def test_windows_that_cover_the_picture_equal_one_pass() -> None:
    model = tiny_catseg(tiny_openai_clip(layers=6))
    pixels, texts = picture(64, 64), model.embed_names(["cat", "dog", "sky"])
    how = CatSegInference(canvas=64, window=64)
    sliding = torch.cat(list(score_picture(model, pixels, texts, size=(64, 64), how=how)))
    logits = model(model.prepare(pixels[None]), texts)
    torch.testing.assert_close(sliding, F.interpolate(logits, size=64, mode="bilinear").sigmoid()[0])
    # One pass resizes probabilities where windows resize logits, as published; at the logits' own size both are one.
    whole, windows = (
        torch.cat(list(score_picture(model, pixels, texts, size=(32, 32), how=replace(how, mode=mode))))
        for mode in ("whole", "sliding")
    )
    torch.testing.assert_close(whole, logits.sigmoid()[0])
    torch.testing.assert_close(windows, F.interpolate(sliding[None], size=32, mode="bilinear")[0])


@torch.no_grad()
def test_padding_shifts_the_published_single_pass_and_not_ours() -> None:
    """A picture of 40 x 40 is padded to 64: what is published spreads padding over a third of the result."""
    model = tiny_catseg(tiny_openai_clip(layers=6))
    texts, pixels = model.embed_names(["cat", "dog"]), picture(40, 40)
    ours = CatSegInference(mode="whole")
    published = replace(ours, keep_padding=True)
    square = F.interpolate(pixels[None], size=64, mode="bilinear")[0]
    expected = torch.cat(list(score_picture(model, square, texts, size=(40, 40), how=ours)))
    torch.testing.assert_close(torch.cat(list(score_picture(model, pixels, texts, size=(40, 40), how=ours))), expected)
    shifted = torch.cat(list(score_picture(model, pixels, texts, size=(40, 40), how=published)))
    assert (shifted - expected).abs().max() > 1e-3


class LargestTensor(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the number of elements of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.elements: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else [out]:
            # A view makes nothing; what it looks at was counted when it was made.
            if isinstance(one, Tensor) and one._base is None:
                self.elements = max(self.elements, one.numel())
        return out


@torch.no_grad()
def largest(model: CatSeg, classes: int, *, classes_at_once: int) -> int:
    texts = F.normalize(torch.randn(classes, 1, 32, generator=torch.Generator().manual_seed(0)), dim=-1)
    how = CatSegInference(mode="whole", classes_at_once=classes_at_once)
    with LargestTensor() as seen:
        streamed_argmax(score_picture(model, picture(32, 32), texts, size=(60, 60), how=how))
    elements: int = seen.elements
    return elements


def test_memory_stays_flat_over_847_classes() -> None:
    """What is kept of a class is its cost embedding and its logits, 256 numbers each here; nothing else grows."""
    model = tiny_catseg(tiny_openai_clip(layers=6), image_size=32)
    few, many = largest(model, 64, classes_at_once=32), largest(model, 847, classes_at_once=32)
    assert few >= 32 * 60 * 60
    assert many <= max(few, 847 * 16 * 16)
    assert largest(model, 847, classes_at_once=847) >= 847 * 60 * 60


def test_settings_that_do_not_fit_are_said() -> None:
    clip = tiny_openai_clip(layers=6)
    settings = catseg_settings(clip)
    with pytest.raises(ValueError, match="no multiple of the patch of 8"):
        CatSeg(clip, replace(settings, image_size=100))
    with pytest.raises(ValueError, match="must ascend ahead of the last block 5"):
        CatSeg(clip, replace(settings, taps=(3, 5)))
    with pytest.raises(ValueError, match="no names to look for"):
        tiny_catseg(clip).embed_names([])
    with pytest.raises(ValueError, match=r"overlap=1.0 is not in \[0, 1\)"):
        CatSegInference(overlap=1.0)
    assert [fitting_window(grid, 12) for grid in (24, 20, 7)] == [12, 10, 7]


def test_synonyms_first_or_averaged() -> None:
    model = tiny_catseg(tiny_openai_clip(layers=6))
    torch.testing.assert_close(model.embed_names(["cat, kitten"]), model.embed_names(["cat"]))
    model.settings = replace(model.settings, synonyms="mean")
    apart = torch.cat([model.embed_names(["cat"]), model.embed_names(["kitten"])])
    torch.testing.assert_close(model.embed_names(["cat, kitten"]), F.normalize(apart.mean(0, keepdim=True), dim=-1))


@pytest.mark.parametrize("train_clip", ["queries-values", "visual-attention", "none"])
def test_two_models_on_one_clip_do_not_disturb_each_other(train_clip: TrainClip) -> None:
    clip = tiny_openai_clip(layers=6)
    names, digest = list(clip.state_dict()), clip.weights_hash()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    one, two = tiny_catseg(clip), tiny_catseg(clip)
    with torch.no_grad():
        expected = two(images, ["cat", "dog"])
    head, backbone = choose_learning(one, train_clip)
    optimizer = torch.optim.SGD([*head, *backbone], lr=0.5)
    one(images, ["cat", "dog"]).square().mean().backward()
    optimizer.step()
    assert (list(clip.state_dict()), clip.weights_hash()) == (names, digest)
    assert not any(parameter.requires_grad for parameter in clip.parameters())
    with torch.no_grad():
        torch.testing.assert_close(two(images, ["cat", "dog"]), expected, atol=0, rtol=0)
        assert (one(images, ["cat", "dog"]) - expected).abs().max() > 1e-4
