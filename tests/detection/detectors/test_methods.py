"""The relatives of F-ViT: what each adds, against the formula."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tests.support.detection import BASE, NAMES, TWO_STAGE, step_for, tiny_batch, tiny_settings
from tests.support.tiny import tiny_eva_clip, tiny_openai_clip, tiny_resnet_clip

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.export import save_clip
from clipself.backbones.text import make_vocabulary
from clipself.backbones.word_encoder import WordEncoder
from clipself.data.preprocess import Preprocess
from clipself.detection.detectors.baron.model import draw_bags, neighbours
from clipself.detection.detectors.table import DETECTORS, build_detector
from clipself.detection.detectors.two_stage.crops import embed_boxes
from clipself.detection.detectors.two_stage.features import FrozenClip
from clipself.detection.detectors.two_stage.model import RegionPass, TwoStage
from clipself.detection.recipes import detect_recipe
from clipself.losses.info_nce import PairQueue, info_nce

BOXES = [[[4, 6, 30, 40], [30, 10, 60, 30]], [[10, 10, 50, 50]]]
LABELS = [[0, 1], [2]]


def build(method: str, **changes: Any) -> TwoStage:
    given: dict[str, Any] = {"fusion": "none", "background": "learned", "distill_regions": 3, "words": 3, **changes}
    clip = tiny_openai_clip(layers=4)
    vocabulary = make_vocabulary(clip, NAMES, base=BASE, templates="simple")
    detector = build_detector(clip, tiny_settings(method=method, **given), vocabulary)
    assert isinstance(detector, TwoStage)
    return detector


@pytest.mark.parametrize("method", TWO_STAGE)
@pytest.mark.parametrize(
    ("boxes", "labels"),
    [pytest.param(BOXES, LABELS, id="ordinary"), pytest.param([[], []], [[], []], id="no-boxes")],
)
def test_every_method_trains_every_parameter_and_detects(
    method: str, boxes: list[list[list[float]]], labels: list[list[int]]
) -> None:
    detector = build(method).train()
    batch = tiny_batch(boxes, labels)
    losses = detector(batch, step_for(batch))
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
    (found,) = detector.eval().detect(torch.zeros(1, 3, 64, 64), [(64, 64)])
    assert found.scores.isfinite().all()


@pytest.mark.parametrize("method", TWO_STAGE)
def test_every_method_stands_on_a_resnet_too(method: str) -> None:
    clip = tiny_resnet_clip()
    vocabulary = make_vocabulary(clip, NAMES, base=BASE, templates="simple")
    detector = build_detector(clip, tiny_settings(method=method, fusion="fvlm", distill_regions=3, words=3), vocabulary)
    assert isinstance(detector, TwoStage)
    assert detector.strides == (4.0, 8.0, 16.0, 32.0)
    batch = tiny_batch(BOXES, LABELS)
    losses = detector.train()(batch, step_for(batch))
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
    before = clip.weights_hash()  # with the running statistics of its norms
    (found,) = detector.eval().detect(torch.randn(1, 3, 64, 64), [(64, 64)])
    assert found.scores.isfinite().all()
    assert clip.weights_hash() == before


@torch.no_grad()
def test_a_region_of_everything_is_the_image_embedding_of_a_resnet() -> None:
    """F-VLM: at the size of pre-training RoIAlign of the whole canvas gives the last stage back, cell by cell."""
    clip = tiny_resnet_clip()
    backbone = FrozenClip(clip, taps=())
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    whole = torch.tensor([[0.0, 0.0, 64.0, 64.0]])
    regions_RD = backbone.embed_regions(backbone(images), [whole.expand(70, 4), whole])
    expected = clip.encode_image(images, normalize=False)
    torch.testing.assert_close(regions_RD[[0, 69, 70]], expected[[0, 0, 1]], atol=1e-5, rtol=1e-4)
    assert backbone.embed_regions(backbone(images), [whole[:0], whole[:0]]).shape == (0, 32)


@pytest.mark.parametrize("recipe", ["small", "small-fvlm", "small-vild", "small-baron"])
def test_recipes_name_methods_that_there_are(recipe: str) -> None:
    assert detect_recipe(recipe).detector.method in DETECTORS
    changed: Any = detect_recipe(recipe, lr=0.5, detector={"beta": 0.3})
    assert (changed.lr, changed.detector.beta) == (0.5, 0.3)
    assert changed.detector.channels == 64


def test_published_recipes_state_the_published_numbers() -> None:
    coco: Any
    lvis: Any
    coco, lvis = detect_recipe("ov-coco-b16"), detect_recipe("ov-lvis-l14")
    assert (coco.detector.image_size, coco.detector.taps, coco.epochs, coco.lr) == (640, (3, 5, 7, 11), 3, 1e-4)
    assert (coco.detector.clip_temperature, coco.detector.alpha, coco.detector.beta) == (75.0, 0.1, 0.8)
    assert (lvis.detector.image_size, lvis.detector.taps, lvis.epochs) == (896, (6, 10, 14, 23), 48)
    assert (lvis.detector.beta, lvis.detector.score_threshold, lvis.detector.max_detections) == (0.4, 0.0001, 300)
    assert lvis.drop_epochs == (32, 44)
    fvlm: Any = detect_recipe("ov-coco-fvlm-rn50")
    assert (fvlm.model, fvlm.pretrained, fvlm.detector.fusion) == ("RN50", "openai", "fvlm")
    assert (fvlm.detector.alpha, fvlm.detector.beta, fvlm.detector.background_weight) == (0.35, 0.65, 0.9)


def test_words_of_real_texts_give_the_text_embedding() -> None:
    """Real word vectors in place of pseudo ones: the encoder is the text tower."""
    for clip in (tiny_openai_clip(), tiny_eva_clip()):
        encoder = WordEncoder(clip)
        text = "a photo of a cat"
        tokens = clip.tokenizer([text])[0]
        length = int((tokens == encoder.end).nonzero()[0])
        tower: Any = getattr(clip.clip, "text", clip.clip)
        words = tower.token_embedding.weight[tokens[1:length]][None]
        torch.testing.assert_close(F.normalize(encoder(words), dim=1), clip.encode_text([text]), atol=1e-5, rtol=1e-4)
        with pytest.raises(ValueError, match="15 pseudo words do not fit into a context of 16"):
            encoder(torch.zeros(1, 15, encoder.width))


def test_words_need_a_text_tower() -> None:
    clip = tiny_openai_clip()
    clip.identity = type(clip.identity)(image="a", text=None)
    with pytest.raises(ValueError, match="pseudo words need one; load it with text_from"):
        WordEncoder(clip)


def test_info_nce_in_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(4, 6, generator=generator), torch.randn(4, 6, generator=generator)
    groups = torch.tensor([0, 0, 1, 2])
    logits = 7.0 * F.normalize(left, dim=1) @ F.normalize(right, dim=1).mT
    total = torch.zeros(())
    for row in range(4):
        others = [other for other in range(4) if other == row or groups[other] != groups[row]]
        forward = logits[row, row] - torch.logsumexp(logits[row, others], 0)
        backward = logits[row, row] - torch.logsumexp(logits[others, row], 0)
        total = total - (forward + backward) / 2
    torch.testing.assert_close(info_nce(left, right, temperature=7.0, groups_N=groups), total)
    assert info_nce(left[:0], right[:0], temperature=7.0) == 0
    with pytest.raises(ValueError, match="are not pairs"):
        info_nce(left, right[:2], temperature=7.0)


def test_earlier_pairs_are_negatives_of_both_sides_but_not_of_their_own_image() -> None:
    generator = torch.Generator().manual_seed(1)
    left, right, old_left, old_right = (torch.randn(3, 6, generator=generator) for _ in range(4))
    queue, groups, old_groups = PairQueue(4, 6), torch.tensor([0, 0, 1]), torch.tensor([1, 7, 8])
    torch.testing.assert_close(
        info_nce(left, right, temperature=7.0, groups_N=groups, queue=queue),
        info_nce(left, right, temperature=7.0, groups_N=groups),
    )  # an empty one changes nothing
    queue.push(old_left, old_right, old_groups)
    pairs = (("l", left), ("r", right), ("ol", old_left), ("or", old_right))
    unit = {name: F.normalize(one, dim=1) for name, one in pairs}
    total = torch.zeros(())
    for row in range(3):
        others = [other for other in range(3) if other == row or groups[other] != groups[row]]
        earlier = [other for other in range(3) if old_groups[other] != groups[row]]
        for mine, theirs, old in (("l", "r", "or"), ("r", "l", "ol")):
            logits = 7.0 * torch.cat([unit[theirs][others], unit[old][earlier]]) @ unit[mine][row]
            total = total + (torch.logsumexp(logits, 0) - 7.0 * unit[theirs][row] @ unit[mine][row]) / 2
    torch.testing.assert_close(info_nce(left, right, temperature=7.0, groups_N=groups, queue=queue), total)
    queue.push(left, right, groups)
    assert queue.groups_Q.tolist() == [8, 0, 0, 1]  # the oldest have left
    assert not queue.state_dict()


def test_whole_image_as_a_crop_is_the_image() -> None:
    clip = tiny_openai_clip().requires_grad_(False)
    own = Preprocess(mean=clip.image_mean, std=clip.image_std)
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    whole = [torch.tensor([[0.0, 0.0, 32.0, 32.0]])]
    # Two samples a pixel of a smooth image hardly differ from the pixel.
    smooth = F.interpolate(images[..., ::8, ::8], size=32, mode="bicubic")
    embedded = embed_boxes(clip, smooth, whole, pixels=own)
    assert float((embedded * clip.encode_image(smooth)).sum()) > 0.98
    other = Preprocess(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    mean, std = torch.tensor(own.mean)[:, None, None], torch.tensor(own.std)[:, None, None]
    raw = smooth * std + mean
    shifted = (raw - torch.tensor(other.mean)[:, None, None]) / torch.tensor(other.std)[:, None, None]
    torch.testing.assert_close(embed_boxes(clip, shifted, whole, pixels=other), embedded, atol=1e-4, rtol=1e-3)
    assert embed_boxes(clip, images, [torch.zeros(0, 4)], pixels=own).shape == (0, 32)


def test_vild_distils_the_best_proposals() -> None:
    detector = build("vild", extra_weight=0.5).eval()
    batch = tiny_batch(BOXES[:1], LABELS[:1])
    seen = seen_by(detector, batch)
    (loss,) = detector.extra_losses(seen, step_for(batch)).values()
    clip = detector.backbone.clip
    boxes = seen.proposals[0].boxes[:3]
    wanted = embed_boxes(
        clip, batch.images_B3HW, [boxes], pixels=Preprocess(mean=clip.image_mean, std=clip.image_std), enlarge=(1, 1.5)
    )
    mine = F.normalize(detector.embed_regions(seen.maps, [boxes]), dim=1)
    total = sum(
        abs(a - b) for left, right in zip(mine.tolist(), wanted.tolist(), strict=True)
        for a, b in zip(left, right, strict=True)
    )  # fmt: skip
    assert float(loss.detach()) == pytest.approx(0.5 * total / 3, rel=1e-4)


def seen_by(detector: TwoStage, batch: Any) -> RegionPass:
    features = detector.backbone(batch.images_B3HW)
    maps = detector.pyramid(detector.taps(features.taps))
    proposals = detector.proposer.propose(detector.proposer(maps), batch.sizes)
    return RegionPass(
        batch=batch, maps=maps[:4], proposals=proposals, targets=[], embeddings_RD=torch.zeros(0, 1), features=features
    )


def test_an_image_head_of_its_own_learns_crops_and_the_other_one_texts() -> None:
    detector: Any = build("vild", ensemble=True, fusion="fvit", alpha=1 / 3, beta=2 / 3)
    batch = tiny_batch(BOXES, LABELS)
    losses = detector.train()(batch, step_for(batch))
    heads = {"image": detector.image_head.embed.weight, "text": detector.box_head.embed.weight}
    for name, wanted in (("distilled", {"image"}), ("classes", {"text"})):
        found = torch.autograd.grad(losses[name], list(heads.values()), allow_unused=True, retain_graph=True)
        assert {head for head, gradient in zip(heads, found, strict=True) if gradient is not None} == wanted
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    for name, parameter in detector.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


@torch.no_grad()
def test_two_heads_are_joined_two_thirds_to_one() -> None:
    """On base names the text head weighs 2/3, on novel ones the image head."""
    detector: Any = build("vild", ensemble=True, fusion="fvit", alpha=1 / 3, beta=2 / 3).eval()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    features = detector.backbone(images, dense=True)
    *maps, _ = detector.pyramid(detector.taps(features.taps))
    boxes = [torch.tensor(BOXES[0], dtype=torch.float32)]
    pooled = detector.pool(maps, boxes, 7)
    text = detector.classify(detector.box_head(pooled)[0])
    image = 100.0 * F.normalize(detector.image_head(pooled), dim=1) @ F.normalize(detector.texts(), dim=1).mT
    base = torch.tensor([True, True, True, False, True])
    weight = torch.where(base, 1 / 3, 2 / 3)
    wanted = text.softmax(-1) ** (1 - weight) * image.softmax(-1) ** weight
    torch.testing.assert_close(detector.fuse(text, features, boxes), wanted, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="ensemble joins two heads by fusion, which is 'none'"):
        tiny_settings("vild", ensemble=True)


def test_another_clip_of_the_same_texts_teaches_crops(tmp_path: Path) -> None:
    original, refined = tiny_openai_clip(layers=4), tiny_openai_clip(layers=4)
    torch.nn.init.normal_(next(iter(refined.trunk.tower.parameters())), std=0.3)
    save_clip(original, tmp_path / "original")
    save_clip(tiny_openai_clip(3, layers=4), tmp_path / "stranger")
    vocabulary = make_vocabulary(refined, NAMES, base=BASE, templates="simple")
    batch, found = tiny_batch(BOXES, LABELS), {}
    for name in (None, "original", "stranger"):
        crops_by = None if name is None else str(tmp_path / name)
        detector: Any = build_detector(refined, tiny_settings("vild", distill_regions=2, crops_by=crops_by), vocabulary)
        assert not any("teacher" in key for key in detector.state_dict())
        if name == "stranger":
            with pytest.raises(ValueError, match="has another text tower than the backbone"):
                detector(batch, step_for(batch))
        else:
            found[name] = detector.eval()(batch, step_for(batch))["distilled"].item()
            teacher = refined if name is None else original
            assert detector.teacher.clip.weights_hash() == teacher.weights_hash()
    assert found[None] != pytest.approx(found["original"], rel=1e-4)


def test_bags_hold_neighbours_within_the_image() -> None:
    generator = torch.Generator().manual_seed(0)
    box = torch.tensor([20.0, 20.0, 30.0, 40.0])
    around = neighbours(box, size=(64, 64), most=8, generator=generator)
    assert len(around) == 8
    corner = neighbours(torch.tensor([0.0, 0.0, 10.0, 20.0]), size=(64, 64), most=8, generator=generator)
    assert len(corner) == 3
    assert {tuple(row) for row in corner.tolist()} == {(10, 0, 20, 20), (0, 20, 10, 40), (10, 20, 20, 40)}
    batch = tiny_batch(BOXES, LABELS)
    bags = draw_bags(seen_by(build("baron"), batch), step_for(batch), most=2, longest=4)
    assert len(bags.sizes) == 4
    assert bags.images == [0, 0, 1, 1]
    assert sum(bags.sizes) == sum(map(len, bags.boxes))
    sizes = iter(bags.sizes)
    for boxes, enclosing in zip(bags.boxes, bags.around, strict=True):
        rows = boxes.tolist()
        for around_bag in enclosing.tolist():
            bag, rows = rows[: (size := next(sizes))], rows[size:]
            corners = zip(*bag, strict=True)  # left, top, right and bottom edges of the boxes of one bag
            assert around_bag == [edge(side) for edge, side in zip((min, min, max, max), corners, strict=True)]
        assert not rows


def test_bags_and_dropped_words_follow_from_the_picture_and_not_from_its_neighbours() -> None:
    detector, batch = build("baron"), tiny_batch(BOXES, LABELS)
    both, step = draw_bags(seen_by(detector, batch), step_for(batch), most=2, longest=4), step_for(batch)
    alone = replace(
        batch, images_B3HW=batch.images_B3HW[1:], sizes=batch.sizes[1:], boxes=batch.boxes[1:], labels=batch.labels[1:],
        names=batch.names[1:],
    )  # fmt: skip
    one = draw_bags(seen_by(detector, alone), step, most=2, longest=4)
    torch.testing.assert_close(one.boxes[0], both.boxes[1], atol=1e-3, rtol=1e-4)
    assert torch.equal(one.kept_RL(step, 3), both.kept_RL(step, 3)[len(both.boxes[0]) :])
    assert bool(one.kept_RL(step, 3)[:, 0].all())


class FakeOwl(torch.nn.Module):
    """Answers as OWL-ViT's head does: a fixed box in the middle of its input, a logit a query."""

    device = torch.device("cpu")

    def forward(self, **inputs: Any) -> Any:
        queries = len(inputs["queries"])
        logits = torch.full((1, 2, queries), -4.0)
        logits[0, 0, -1], logits[0, 1, 0] = 2.0, 0.0
        boxes = torch.tensor([[[0.5, 0.25, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]])
        return type("Out", (), {"logits": logits, "pred_boxes": boxes})()


class FakeOwlv2(FakeOwl):
    """The same with a padded input."""


class FakeInputs(dict[str, Any]):
    def to(self, device: Any) -> "FakeInputs":
        return self


def processor(*, text: Any, images: Any, return_tensors: str) -> FakeInputs:
    return FakeInputs(queries=text[0])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        pytest.param(FakeOwl, [25.0, 0.0, 75.0, 25.0], id="owlvit-stretches"),
        pytest.param(FakeOwlv2, [25.0, 0.0, 75.0, 50.0], id="owlv2-pads"),
    ],
)
def test_owl_boxes_come_back_to_pictures_that_are_not_square(
    kind: Callable[[], torch.nn.Module], expected: list[float]
) -> None:
    from clipself.detection.detectors.owlvit import OwlDetector

    detector = OwlDetector(model=kind(), processor=processor, device="cpu")
    picture = Image.fromarray(np.zeros((50, 100, 3), np.uint8))
    (found,) = detector.predict([picture], ["cat", "dog"], threshold=0.6)
    assert found.boxes.tolist() == [expected]
    assert [found.names[label] for label in found.labels] == ["dog"]
    assert found.scores[0] == pytest.approx(0.8808, abs=1e-4)
    with pytest.raises(ValueError, match="there are no names to look for"):
        detector.predict([picture], [])


def test_owl_without_transformers_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from clipself.detection.detectors.owlvit import OwlDetector

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'clipself\[owlvit\]'"):
        OwlDetector("google/owlvit-base-patch32", device="cpu")


def test_a_clip_is_shared_and_frozen() -> None:
    clip: DenseCLIP = tiny_openai_clip(layers=4)
    detector = build_detector(clip, tiny_settings(), make_vocabulary(clip, NAMES, base=BASE, templates="simple"))
    assert detector.clip is clip
    assert not any(parameter.requires_grad for parameter in clip.parameters())
