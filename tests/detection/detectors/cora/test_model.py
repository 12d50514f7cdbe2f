"""CORA as a detector: what it learns from, what it looks for, what it keeps."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.support.detection import BASE, NAMES, step_for, write_blocks
from tests.support.tiny import tiny_openai_clip, tiny_resnet_clip

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.export import save_clip
from clipself.backbones.text import make_vocabulary
from clipself.data.detection import CocoDetection
from clipself.detection.checkpoint import load_detector, save_detector
from clipself.detection.detectors.cora.model import Cora
from clipself.detection.detectors.cora.settings import CoraSettings
from clipself.detection.detectors.table import build_detector
from clipself.detection.region_prompt.file import PROMPT
from clipself.structures import DetectionBatch

SMALL: dict[str, Any] = {
    "templates": "simple", "short_side": 64, "longest_side": 96, "short_sides": (64,), "crop": 0.0, "width": 32,
    "hidden": 32, "heads": 4, "encoder_layers": 1, "decoder_layers": 2, "dropout": 0.0, "queries": 12,
    "bottleneck": 8, "split_classes": 0.0,
}  # fmt: skip


def cora(clip: DenseCLIP | None = None, **changes: Any) -> Cora:
    clip = clip or tiny_resnet_clip()
    settings = CoraSettings(**{**SMALL, **changes})
    vocabulary = make_vocabulary(clip, NAMES, base=BASE, **settings.spoken)
    detector = build_detector(clip, settings, vocabulary)
    assert isinstance(detector, Cora)
    return detector


def batch_of(size: tuple[int, int] = (64, 64), canvas: tuple[int, int] = (64, 64)) -> DetectionBatch:
    images = torch.zeros(1, 3, *canvas)
    images[:, :, : size[0], : size[1]] = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    return DetectionBatch(
        images_B3HW=images, sizes=(size,), boxes=(torch.tensor([[8.0, 8.0, 40.0, 48.0]]),),
        labels=(torch.tensor([1]),), masks=None, names=("a",),
    )  # fmt: skip


@pytest.mark.parametrize("changes", [{}, {"first_stage": 9}, {"deformable_encoder": True}], ids=str)
def test_everything_that_learns_gets_a_gradient_and_nothing_else(changes: dict[str, Any]) -> None:
    detector = cora(**changes)
    torch.stack(list(detector.train()(batch_of(), step_for(batch_of())).values())).sum().backward()  # type: ignore[no-untyped-call]
    (group,) = detector.parameter_groups(weight_decay=0.1)
    learning = {id(parameter) for parameter in group["params"]}
    assert learning == {id(parameter) for parameter in detector.localiser.parameters()}
    assert all(parameter.grad is not None for parameter in group["params"])
    assert all(parameter.grad is None for parameter in detector.clip.parameters())
    assert detector.regions.prompt is not None
    assert detector.regions.prompt.grad is None


def test_names_that_are_held_out_change_no_loss() -> None:
    detector, batch = cora().train(), batch_of()
    before = detector(batch, step_for(batch))
    texts = detector.vocabulary.texts_KD.clone()
    texts[~detector.vocabulary.base_K] = torch.randn(texts.shape[1])
    detector.use(replace(detector.vocabulary, texts_KD=texts))
    after = detector(batch, step_for(batch))
    assert {name: loss.item() for name, loss in before.items()} == {name: loss.item() for name, loss in after.items()}


def test_the_number_of_the_step_decides_whether_the_names_are_split() -> None:
    detector = cora(split_classes=0.2)
    step = step_for(batch_of())
    split = [number for number in range(30) if len(detector._texts(type(step)(
        number=number, seed=3, totals=step.totals, world=step.world))) == 2]  # fmt: skip
    assert split == [1, 14, 18, 21, 28]  # the released steps
    assert split == [number for number in range(30) if random.Random(number).random() < 0.2]


def test_each_half_of_a_split_hears_what_the_other_does_not() -> None:
    detector = cora(split_classes=1.0)
    first, second = (texts[detector.vocabulary.base_K[:-1]] for texts in detector._texts(step_for(batch_of())))
    silent = (first == 0).all(1)
    assert int(silent.sum()) == len(BASE) // 2
    assert torch.equal(silent, ~(second == 0).all(1))
    torch.testing.assert_close(first + second, detector.vocabulary.texts_KD[:-1][detector.vocabulary.base_K[:-1]])


def test_a_split_step_learns_from_both_halves() -> None:
    detector, batch = cora(split_classes=1.0).train(), batch_of()
    losses = detector(batch, step_for(batch))
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_boxes_do_not_depend_on_the_pixels_of_the_padding() -> None:
    """Of a transformer whose patches of padding are outside every box; the map itself sees them a little."""
    detector = cora().eval()
    maps = detector.regions.read(batch_of((48, 64), (64, 64)).images_B3HW, [(48, 64)])
    memory = detector.localiser.encode(maps.inner)
    other = maps.inner.values.clone()
    other[maps.inner.padding_BYX[:, None].expand_as(other)] = 7.0
    changed = detector.localiser.encode(type(maps.inner)(
        values=other, padding_BYX=maps.inner.padding_BYX, covered_B2=maps.inner.covered_B2))  # fmt: skip
    seen = ~memory.padding_BN
    torch.testing.assert_close(memory.cells_BNC[seen], changed.cells_BNC[seen])
    anchors, texts = detector.localiser.anchors(memory, None), torch.randn(1, 12, detector.clip.embed_dim)
    one, two = (detector.localiser.decode(some, anchors, texts)[-1] for some in (memory, changed))
    torch.testing.assert_close(one.boxes_BQ4, two.boxes_BQ4)


def test_the_factor_draws_anchors_to_names_that_training_did_not_see() -> None:
    from clipself.detection.detectors.cora.anchors import class_chances

    features, texts = torch.eye(2)[None], torch.tensor([[[1.0, 0.0], [0.98, 0.2]]])
    plain = class_chances(features[:, :1], texts, temperature=100.0, factor_K=torch.ones(2))
    factor = class_chances(features[:, :1], texts, temperature=100.0, factor_K=torch.tensor([1.0, 8.0]))
    assert plain.argmax(-1).tolist() == [[0]]
    assert factor.argmax(-1).tolist() == [[1]]
    torch.testing.assert_close(factor[..., 1], 8 * plain[..., 1])


@pytest.mark.parametrize("clip", [tiny_resnet_clip, tiny_openai_clip])
def test_a_saved_detector_finds_the_same(clip: Any, tmp_path: Path) -> None:
    detector, batch = cora(clip(), score_threshold=0.0).eval(), batch_of((56, 64), (56, 64))
    save_clip(detector.clip, tmp_path / "clip")
    save_detector(detector, tmp_path / "run", model=str(tmp_path / "clip"), card={})
    again = load_detector(tmp_path / "run")
    (one,), (two,) = (some.detect(batch.images_B3HW, batch.sizes) for some in (detector, again))
    assert len(one.scores) > 0
    assert torch.equal(one.scores, two.scores)
    assert torch.equal(one.boxes, two.boxes)
    (proposed,) = again.propose(batch.images_B3HW, batch.sizes)
    assert proposed.scores.tolist() == sorted(proposed.scores.tolist(), reverse=True)


def test_a_prompt_is_kept_with_the_detector(tmp_path: Path) -> None:
    clip = tiny_resnet_clip()
    table = cora(clip).regions.prompt
    assert table is not None
    prompt = tmp_path / "prompt.safetensors"
    save_file({PROMPT: table + 1}, prompt)
    detector = cora(clip, prompt=str(prompt))
    data = CocoDetection(write_blocks(tmp_path), tmp_path / "pictures")
    detector.prepare(data)
    save_clip(clip, tmp_path / "clip")
    save_detector(detector, tmp_path / "run", model=str(tmp_path / "clip"), card={})
    prompt.unlink()
    assert str(tmp_path) not in (tmp_path / "run/detector.json").read_text()
    again = load_detector(tmp_path / "run")
    assert isinstance(again, Cora)
    assert again.regions.prompt is not None
    torch.testing.assert_close(again.regions.prompt.data, table.data + 1)


def test_a_transformer_takes_no_prompt() -> None:
    with pytest.raises(ValueError, match="of a CLIP ResNet's attention pool"):
        cora(tiny_openai_clip(), prompt="prompt.safetensors")


def test_widths_that_no_head_divides_are_refused() -> None:
    with pytest.raises(ValueError, match="must be a multiple of 8 and of heads=3"):
        CoraSettings(width=16, heads=3)
