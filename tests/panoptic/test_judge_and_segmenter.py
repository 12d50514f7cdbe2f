from collections.abc import Sequence
from typing import Any

import pytest
import torch
from PIL import Image
from tests.support.panoptic import draw_world
from tests.support.tiny import tiny_openai_clip, tiny_resnet_clip
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import embed_names
from clipself.panoptic.generators.mask_set import MaskSet
from clipself.panoptic.judge import ClipJudge, pool_dense, scale_of
from clipself.panoptic.mixture import Mixture, mix_scores, seen_by
from clipself.panoptic.segmenter import PanopticSegmenter
from clipself.panoptic.settings import Rules
from clipself.text.templates import load_templates

NAMES = ["red box", "green box, lime box", "blue ground"]
IS_THING = [True, True, False]


class FixedMasks:
    """A generator that always says the same."""

    def __init__(self, masks: Tensor, *, logits: Tensor | None = None, trained: Sequence[str] = ()) -> None:
        self.masks, self.logits, self.trained_names = masks, logits, tuple(trained)

    def __call__(self, picture: Image.Image, *, file: str, names: Sequence[str]) -> MaskSet:
        return MaskSet(masks_QYX=self.masks, void_Q=torch.zeros(len(self.masks)), logits_QK=self.logits)


def world_masks() -> tuple[Image.Image, Tensor]:
    picture, ids, labels = draw_world(0)
    return picture, torch.stack([torch.where(torch.from_numpy(ids == one), 20.0, -20.0) for one in labels])


@pytest.fixture(scope="module")
def clip() -> DenseCLIP:
    return tiny_openai_clip()


def test_names_are_averaged_over_sentences_and_synonyms_stay_apart(clip: DenseCLIP) -> None:
    text = embed_names(clip, NAMES, templates="vild", wording="short")
    assert text.counts == (1, 2, 1)
    assert text.rows_SD.shape == (4, 32)
    sentences = [template.replace("{}", "red box") for template in load_templates("vild")]
    assert len(sentences) == 14
    with torch.no_grad():
        mean = torch.nn.functional.normalize(clip.encode_text(sentences), dim=-1).mean(0)
    torch.testing.assert_close(text.rows_SD[0], mean / mean.norm(), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="no names to look for"):
        embed_names(clip, [])


def test_pooling_is_the_mean_of_the_patches_of_a_mask(clip: DenseCLIP) -> None:
    picture = draw_world(0)[0]
    judge = ClipJudge(clip, NAMES, image_size=64)
    masks = torch.full((2, 6, 8), -5.0)  # at the grid's own size: a patch is a cell
    masks[0, 1, 2], masks[0, 3, 3] = 5.0, 5.0
    masks[1] = -5.0  # nowhere: pooled by cover, which is even
    dense = clip.dense_map(clip.preprocess(picture, size=(48, 64))[None])[0]
    pooled = pool_dense(judge, picture, masks)
    torch.testing.assert_close(pooled[0], (dense[:, 1, 2] + dense[:, 3, 3]) / 2, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(pooled[1], dense.flatten(1).mean(1), atol=1e-4, rtol=1e-3)
    logits = judge(picture, masks)
    assert logits.shape == (2, 3)
    assert float(logits.detach().abs().max()) <= scale_of(clip) + 1e-4


def test_a_mask_smaller_than_a_patch_is_judged_by_its_patch(clip: DenseCLIP) -> None:
    picture = draw_world(0)[0]
    judge = ClipJudge(clip, NAMES, image_size=64)
    masks = torch.full((1, 48, 64), -20.0)
    masks[0, 17, 42] = 20.0  # in the patch of row 2, column 5
    dense = clip.dense_map(clip.preprocess(picture, size=(48, 64))[None])[0]
    torch.testing.assert_close(pool_dense(judge, picture, masks)[0], dense[:, 2, 5], atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_a_resnets_attention_pool_sees_the_pixels_of_a_mask() -> None:
    """FC-CLIP's released steps by torch's own attention: the mean asks, pixels under the mask answer."""
    clip, picture = tiny_resnet_clip(), draw_world(0)[0]
    judge = ClipJudge(clip, NAMES, by="attention", image_size=128)
    masks = torch.full((3, 3, 4), -5.0)  # at the grid's own size
    masks[0, 1, 2], masks[0, 2, 3], masks[1] = 5.0, 5.0, 5.0
    found = judge.embed(picture, masks)
    visual: Any = clip.clip.visual
    pool = visual.attnpool
    x = visual.stem(clip.preprocess(picture, size=(96, 128))[None])
    for stage in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        x = stage(x)
    table = pool.positional_embedding[1:].T.reshape(1, -1, 2, 2)
    table = torch.nn.functional.interpolate(table, size=(3, 4), mode="bilinear", align_corners=False)
    pixels = (x + table).flatten(2)[0].T[:, None]
    asked = (x.mean((2, 3)) + pool.positional_embedding[0])[None]
    for row, mask in enumerate(masks[:2]):
        expected, _ = torch.nn.functional.multi_head_attention_forward(
            asked, pixels, pixels, pixels.shape[-1], pool.num_heads, None,
            torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]), None, None, False, 0.0,
            pool.c_proj.weight, pool.c_proj.bias, training=False, use_separate_proj_weight=True,
            q_proj_weight=pool.q_proj.weight, k_proj_weight=pool.k_proj.weight, v_proj_weight=pool.v_proj.weight,
            attn_mask=(mask <= 0).flatten()[None],
        )  # fmt: skip
        torch.testing.assert_close(found[row], expected[0, 0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[2], found[1], atol=1e-5, rtol=1e-4)  # nowhere: by cover, which is even
    assert judge(picture, masks).shape == (3, 3)
    with pytest.raises(ValueError, match="needs a ResNet of CLIP; tiny-openai pools by class token"):
        ClipJudge(tiny_openai_clip(), NAMES, by="attention", image_size=64)(picture, masks)


def test_a_crop_sees_nothing_outside_its_mask(clip: DenseCLIP) -> None:
    picture, masks = world_masks()
    judge = ClipJudge(clip, NAMES, by="crops", image_size=64)
    before = judge(picture, masks)
    changed = Image.new("RGB", picture.size, (255, 255, 255))
    mask = Image.fromarray((masks[1] > 0).numpy())
    changed.paste(picture, (0, 0), mask)
    torch.testing.assert_close(judge(changed, masks)[1], before[1], atol=1e-4, rtol=1e-4)
    assert float((judge(changed, masks)[0] - before[0]).abs().max()) > 1e-3
    assert judge(picture, torch.full((1, 48, 64), -9.0)).isfinite().all()  # a mask without a pixel


def test_every_way_gives_one_row_a_mask(clip: DenseCLIP) -> None:
    picture, masks = world_masks()
    for by in ("masks", "crops", "tokens"):
        judge = ClipJudge(clip, NAMES, by=by, image_size=64)
        assert judge(picture, masks).shape == (3, 3)
        assert judge(picture, masks[:0]).shape == (0, 3)
    with pytest.raises(ValueError, match="unknown way to judge masks 'pool'"):
        ClipJudge(clip, NAMES, by="pool")
    with pytest.raises(ValueError, match="smaller than one patch"):
        ClipJudge(clip, NAMES, image_size=4)


def test_rows_of_the_table_take_the_scores_they_name() -> None:
    inside, outside = torch.tensor([[4.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 4.0]])
    masks = MaskSet(masks_QYX=torch.zeros(1, 2, 2), void_Q=torch.tensor([0.25]), logits_QK=inside)
    plain = MaskSet(masks_QYX=torch.zeros(1, 2, 2), void_Q=torch.tensor([0.25]))
    only_clip = mix_scores(masks, outside, mixture=Mixture(alpha=1, beta=1), seen=[True, False, True])
    torch.testing.assert_close(only_clip[0, :3].exp(), outside[0].softmax(-1) * 0.75)
    torch.testing.assert_close(only_clip, mix_scores(plain, outside, mixture=Mixture(alpha=1, beta=1), seen=[True] * 3))
    only_masks = mix_scores(masks, None, mixture=Mixture(alpha=0, beta=0), seen=[True] * 3)
    torch.testing.assert_close(only_masks[0, :3].exp(), inside[0].softmax(-1) * 0.75)
    assert float(only_masks[0, 3].exp()) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="only the CLIP can judge them"):
        mix_scores(plain, outside, mixture=Mixture(alpha=0.4, beta=0.8), seen=[True] * 3)


def test_classes_count_as_seen_by_any_synonym() -> None:
    generator = FixedMasks(torch.zeros(1, 2, 2), trained=["lime box,moss", "sky"])
    assert seen_by(generator, NAMES) == [False, True, False]


def test_overlapping_masks_share_the_picture_out(clip: DenseCLIP) -> None:
    picture, masks = world_masks()
    everything = torch.full((1, 48, 64), 3.0)
    segmenter = PanopticSegmenter(
        FixedMasks(torch.cat([masks, everything])), ClipJudge(clip, NAMES, image_size=64), NAMES, IS_THING
    )
    found = segmenter(picture)
    ids, counts = found.panoptic.ids_HW.unique(return_counts=True)  # type: ignore[no-untyped-call]
    assert int(counts.sum()) == 48 * 64
    assert set(ids.tolist()) - {0} == {segment.id for segment in found.panoptic.segments}
    assert found.semantic_HW.shape == (48, 64)


@pytest.mark.parametrize("masks", [pytest.param(0, id="none-at-all"), pytest.param(2, id="none-with-a-pixel")])
def test_a_picture_without_masks_is_void(clip: DenseCLIP, masks: int) -> None:
    segmenter = PanopticSegmenter(
        FixedMasks(torch.full((masks, 12, 16), -9.0)), ClipJudge(clip, NAMES, image_size=64), NAMES, IS_THING
    )
    found = segmenter(Image.new("RGB", (64, 48)))
    assert not found.panoptic.ids_HW.any()
    assert found.panoptic.segments == ()
    assert found.panoptic.ids_HW.shape == found.semantic_HW.shape == (48, 64)
    assert not found.instances.masks_NHW.any()


def test_no_mask_above_the_threshold_leaves_void(clip: DenseCLIP) -> None:
    picture, masks = world_masks()
    judge = ClipJudge(clip, NAMES, image_size=64)
    segmenter = PanopticSegmenter(FixedMasks(masks), judge, NAMES, IS_THING, rules=Rules(object_threshold=1.0))
    assert segmenter(picture).panoptic.segments == ()


@pytest.mark.parametrize("count", [1, 1300])
def test_one_name_and_a_thousand(clip: DenseCLIP, count: int) -> None:
    picture, masks = world_masks()
    names = [f"thing number {place}" for place in range(count)]
    judge = ClipJudge(clip, names, image_size=64, templates="simple")
    logits = torch.zeros(3, count)
    generator = FixedMasks(masks, logits=logits, trained=names[: count // 2])
    segmenter = PanopticSegmenter(generator, judge, names, [True] * count, scores="both")
    found = segmenter(picture)
    assert found.log_scores_QK1.shape == (3, count + 1)
    assert torch.isfinite(found.log_scores_QK1).all()
    assert len(found.panoptic.segments) == 3
    assert len(found.instances.scores_N) == min(100, 3 * count)


def test_names_kinds_and_judge_must_belong_together(clip: DenseCLIP) -> None:
    judge = ClipJudge(clip, NAMES, image_size=64)
    with pytest.raises(ValueError, match="3 names and 1 kinds do not belong together"):
        PanopticSegmenter(FixedMasks(torch.zeros(1, 2, 2)), judge, NAMES, [True])
    with pytest.raises(ValueError, match="unknown mixture of scores 'clip only'"):
        PanopticSegmenter(FixedMasks(torch.zeros(1, 2, 2)), judge, NAMES, IS_THING, scores="clip only")
    segmenter = PanopticSegmenter(FixedMasks(torch.zeros(1, 2, 2)), judge)
    with pytest.raises(ValueError, match=r"by set_image\(picture\), and names, by use\(names\)"):
        segmenter.segment()
    with pytest.raises(ValueError, match="'grass' more than once"):
        segmenter.use(["grass", "grass"])
    with pytest.raises(ValueError, match="no names to compare with"):
        ClipJudge(clip, image_size=64).classify(torch.zeros(1, 32))


@pytest.mark.parametrize(
    ("names", "stuff"),
    [
        pytest.param(["cat", "couch, sofa", "wall"], ["wall"], id="lists"),
        pytest.param("cat; couch, sofa; wall", "wall", id="words"),
        pytest.param("cat; couch, sofa;", ("wall",), id="stuff-is-added"),
    ],
)
def test_names_are_lists_or_words(clip: DenseCLIP, names: Any, stuff: Any) -> None:
    segmenter = PanopticSegmenter(FixedMasks(torch.zeros(1, 2, 2)), ClipJudge(clip, image_size=64))
    segmenter.use(names, stuff=stuff)
    assert (segmenter.names, segmenter.is_thing) == (["cat", "couch, sofa", "wall"], [True, True, False])
    segmenter.use("coco_panoptic_133")
    assert (len(segmenter.names), sum(segmenter.is_thing)) == (133, 80)


class CountingMasks(FixedMasks):
    """Knows every name there is, by its length; counts how often it looks at a picture."""

    looked = 0

    def __call__(self, picture: Image.Image, *, file: str, names: Sequence[str]) -> MaskSet:
        self.looked += 1
        return self.score(names)

    def score(self, names: Sequence[str]) -> MaskSet:
        logits = torch.tensor([float(len(name)) for name in names]).expand(len(self.masks), -1)
        void = torch.zeros(len(self.masks))
        return MaskSet(masks_QYX=self.masks, void_Q=void, logits_QK=logits, rescore=self.score if self.keeps else None)

    keeps = True


@pytest.mark.parametrize("scores", ["clip", "generator", "both"])
@pytest.mark.parametrize("keeps", [True, False])
def test_a_picture_is_looked_at_once_and_asked_often(
    clip: DenseCLIP, scores: str, keeps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture, masks = world_masks()
    generator = CountingMasks(masks, trained=["lime box"])
    generator.keeps = keeps
    judge, seen = ClipJudge(clip, image_size=64), list[str]()
    look = judge._way

    def looked_at(*given: Any) -> Tensor:
        seen.append("image")
        return look(*given)

    monkeypatch.setattr(judge, "_way", looked_at)
    segmenter = PanopticSegmenter(generator, judge, scores=scores)
    segmenter.set_image(picture)
    lists = [["red box", "ground"], NAMES, ["tree"]]
    for names in lists:
        segmenter.use(names, stuff=["ground"])
        again = segmenter.segment()
        fresh = PanopticSegmenter(generator, ClipJudge(clip, image_size=64), names, stuff=["ground"], scores=scores)
        torch.testing.assert_close(again.log_scores_QK1, fresh(picture).log_scores_QK1)
        assert segmenter.names == [*names, *(["ground"] if "ground" not in names else [])]
        assert segmenter.is_thing == [name != "ground" for name in segmenter.names]
    own = generator.looked - len(lists)  # each fresh segmenter looks once
    assert own == (1 if keeps else 1 + len(lists))
    assert len(seen) == (0 if scores == "generator" else own)


def test_a_giant_strip_is_segmented_in_bounded_memory(clip: DenseCLIP) -> None:
    """Sixty masks of a panorama of 3 x 60,000 pixels compete at a length of 512; the maps have the picture's size."""
    masks = torch.full((60, 3, 1000), -20.0, dtype=torch.float16)
    for place in range(60):
        masks[place, :, 16 * place : 16 * place + 16] = 20.0
    segmenter = PanopticSegmenter(
        FixedMasks(masks), ClipJudge(clip, image_size=64), NAMES, IS_THING, rules=Rules(longest=512)
    )
    found = segmenter(Image.new("RGB", (60_000, 3)))
    assert found.panoptic.ids_HW.shape == found.semantic_HW.shape == (3, 60_000)
    assert found.instances.masks_NHW.shape[1:] == (1, 512)
    assert next(found.instances.masks()).shape == (3, 60_000)
    assert float(found.instances.boxes[:, 2].max()) > 50_000
