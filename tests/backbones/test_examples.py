"""Names by example: rows of pictures and regions against the maps they are pooled from, in every family."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tests.support.tiny import tiny_openai_clip

import clipself
from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.examples import as_clip_sees_it, embed_examples
from clipself.backbones.text import centre_on, embed_names, embed_sentences, make_vocabulary
from clipself.data.examples import examples_of, read_examples
from clipself.data.images import Example
from clipself.data.photographs import load_photo
from clipself.ops.run_lengths import encode_mask
from clipself.panoptic.judge import ClipJudge
from clipself.workflows.show import show_query


@pytest.fixture(scope="module")
def mini() -> DenseCLIP:
    return clipself.load_clip("clipself-mini")


def photo(name: str, *share: float) -> Image.Image:
    """A part of a packaged photograph, by shares of its sides."""
    image = load_photo(name)
    left, top, right, bottom = (round(value * side) for value, side in zip(share, image.size * 2, strict=True))
    return image.crop((left, top, right, bottom))


EXAMPLES: Mapping[str, Any] = {
    "the flower": photo("flower", 0.2, 0.2, 0.45, 0.6),
    "the cat": photo("cat", 0, 0, 0.5, 1),
}
OTHER_PARTS: Mapping[str, Image.Image] = {
    "the flower": photo("flower", 0.4, 0.3, 0.65, 0.8), "the cat": photo("cat", 0.5, 0, 1, 1)
}  # fmt: skip


def test_a_region_is_pooled_from_the_dense_map() -> None:
    clip = tiny_openai_clip()
    pixels = np.random.default_rng(0).integers(0, 255, (32, 48, 3), dtype=np.uint8)
    patch = clip.patch_size
    dense = clip.dense_map(clip.preprocess(pixels, size=(32, 48))[None])[0]
    box = (patch, 0, 3 * patch, 2 * patch)  # whole patches: the plain mean over them
    expected = F.normalize(dense[:, :2, 1:3].mean((1, 2)), dim=0)
    rows = embed_examples(clip, {"it": Example(picture=pixels, boxes=(box,))}, image_size=48)
    torch.testing.assert_close(rows["it"], expected, atol=1e-5, rtol=1e-5)
    mask = np.zeros((32, 48), dtype=bool)
    mask[:patch, : 2 * patch] = True
    masked = Example(picture=pixels, boxes=(box,), masks=(encode_mask(mask),))
    expected = F.normalize(dense[:, 0, :2].mean(1), dim=0)
    torch.testing.assert_close(
        embed_examples(clip, {"it": masked}, image_size=48)["it"], expected, atol=1e-5, rtol=1e-5
    )


def test_each_region_and_each_picture_is_one_row_of_the_mean() -> None:
    clip = tiny_openai_clip()
    picture = np.random.default_rng(1).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    boxes = ((0.0, 0.0, 16.0, 16.0), (8.0, 8.0, 32.0, 32.0))
    alone = [embed_examples(clip, {"it": Example(picture=picture, boxes=(box,))}, image_size=32)["it"] for box in boxes]
    whole = clip.encode_image(as_clip_sees_it(clip, Image.fromarray(picture))[None])[0]
    rows = embed_examples(clip, {"it": [Example(picture=picture, boxes=boxes), picture]}, image_size=32)
    torch.testing.assert_close(rows["it"], F.normalize((alone[0] + alone[1] + whole) / 3, dim=0))


def test_rows_stand_in_the_order_of_the_names(caplog: pytest.LogCaptureFixture) -> None:
    clip = tiny_openai_clip()
    row = F.normalize(torch.ones(clip.embed_dim), dim=0)
    names = ["cat, kitten", "mug", "dog"]
    asked: dict[str, Any] = {"templates": "simple", "cache": False}
    texts = embed_names(clip, ["cat, kitten", "dog"], wording="short", **asked)
    found = embed_names(clip, names, wording="short", shown={"mug": row}, **asked)
    assert found.counts == (2, 1, 1)
    torch.testing.assert_close(found.rows_SD, torch.cat([texts.rows_SD[:2], row[None], texts.rows_SD[2:]]))
    assert "1 names are shown and 2 are words: regions are nearer to pictures" in caplog.text
    alone = embed_names(clip, ["mug"], shown={"mug": row}, **asked)
    torch.testing.assert_close(alone.rows_SD, row[None])
    each, counts = embed_sentences(clip, names, templates="detection", shown={"mug": row})
    words, _ = embed_sentences(clip, ["cat, kitten", "dog"], templates="detection")
    assert counts == (2, 1, 1)
    torch.testing.assert_close(each, torch.cat([words[:2], row.expand(1, words.shape[1], -1), words[2:]]))
    vocabulary = make_vocabulary(clip, ["dog", "mug"], base=["dog"], templates="simple", examples={"mug": row})
    assert vocabulary.names == ("dog", "mug")
    torch.testing.assert_close(vocabulary.texts_KD[1], row)


def test_examples_beside_words_are_laid_around_the_mean_of_the_words() -> None:
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(2, 64, generator=generator)
    shown, texts = (F.normalize(side + 0.3 * torch.randn(9, 64, generator=generator), dim=1) for side in common)
    laid = centre_on(shown, texts)
    torch.testing.assert_close(laid.norm(dim=1), torch.ones(9))
    assert float((laid.mean(0) - texts.mean(0)).norm()) < 0.1 < 0.9 < float((shown.mean(0) - texts.mean(0)).norm())
    apart, before = laid - laid.mean(0), shown - shown.mean(0)
    assert float(F.cosine_similarity(apart, before).min()) > 0.9  # what tells them apart stays
    assert float(apart.norm(dim=1).mean()) == pytest.approx(float((texts - texts.mean(0)).norm(dim=1).mean()), rel=0.1)
    assert torch.isfinite(centre_on(shown[:1].repeat(2, 1), texts)).all()


def test_labels_are_examples_by_their_names(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20), (200, 0, 0)).save(tmp_path / "a.png")
    Image.new("RGB", (40, 20), (0, 0, 200)).save(tmp_path / "b.png")
    held = {
        "images": [{"id": n, "file_name": f"{name}.png", "width": 40, "height": 20} for n, name in enumerate("ab")],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 1, "bbox": [0, 0, 10, 10]},
            {"id": 2, "image_id": 0, "category_id": 1, "bbox": [5, 5, 10, 10], "segmentation": [[5, 5, 15, 5, 15, 15]]},
            {"id": 3, "image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4]},
            {"id": 4, "image_id": 1, "category_id": 2, "bbox": [1, 2, 30, 4], "iscrowd": 1},
        ],
        "categories": [{"id": 1, "name": "mug"}, {"id": 2, "name": "key"}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(held))
    found = read_examples(tmp_path / "labels.json", tmp_path)
    assert {name: [one.boxes for one in some] for name, some in found.items()} == {
        "mug": [((0, 0, 10, 10), (5, 5, 15, 15))], "key": [((1, 2, 4, 6),)],
    }  # fmt: skip
    assert [mask is None for mask in found["mug"][0].masks] == [True, False]
    assert set(embed_examples(tiny_openai_clip(), found, image_size=32)) == {"mug", "key"}
    with pytest.raises(ValueError, match="is a file of labels; pass the folder of its pictures too, as example_images"):
        read_examples(tmp_path / "labels.json")
    with pytest.raises(ValueError, match="example_images are the pictures of examples, which are not given"):
        examples_of(None, tmp_path)
    (tmp_path / "b.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 images named by .* are missing"):
        read_examples(tmp_path / "labels.json", tmp_path)


def test_examples_that_cannot_be_meant_are_refused() -> None:
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="1 masks and 2 boxes; give each box its mask, or None"):
        Example(picture=picture, boxes=((0, 0, 1, 1),) * 2, masks=(None,))
    wrong = Example(picture=picture, boxes=((0, 0, 4, 4),), masks=(encode_mask(np.ones((4, 4), dtype=bool)),))
    with pytest.raises(ValueError, match=r"the mask of an example is 4 x 4 pixels .* its picture 8 x 8"):
        embed_examples(tiny_openai_clip(), {"it": wrong})


def test_another_part_of_the_same_thing_scores_above_another_thing(mini: DenseCLIP) -> None:
    rows = embed_examples(mini, EXAMPLES)
    for name, part in OTHER_PARTS.items():
        (other,) = set(OTHER_PARTS) - {name}
        seen = embed_examples(mini, {name: part})[name]
        assert float(seen @ rows[name]) > float(seen @ rows[other]) + 0.1


def test_segmenters_are_shown_what_to_look_for(mini: DenseCLIP) -> None:
    segmenter = clipself.TrainingFree(mini, ["sky"])
    segmenter.use(examples=EXAMPLES)
    assert list(segmenter.names) == ["the flower", "the cat"]
    for place, part in enumerate(OTHER_PARTS.values()):
        assert segmenter.segment(part.resize((160, 160))).share(place) > 0.8
    segmenter.use(["sky"])
    assert list(segmenter.names) == ["sky"]
    segmenter.shows = None
    with pytest.raises(ValueError, match="TrainingFree looks for names alone; leave the examples out"):
        segmenter.use(examples=EXAMPLES)


def test_judges_of_masks_are_shown_what_to_look_for(mini: DenseCLIP) -> None:
    judge = ClipJudge(mini, image_size=160)
    judge.use(examples=EXAMPLES)
    for place, part in enumerate(OTHER_PARTS.values()):
        assert int(judge(part, torch.full((1, 10, 10), 9.0)).argmax()) == place
    before = judge.text
    judge.use(list(EXAMPLES))  # the same names, now words
    assert not torch.allclose(judge.text.rows_SD, before.rows_SD)


@pytest.mark.parametrize("task", ["detect", "segment", "panoptic"])
def test_commands_take_folders_of_examples(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    for name, picture in EXAMPLES.items():
        (tmp_path / "examples" / name).mkdir(parents=True)
        picture.resize((96, 96)).save(tmp_path / "examples" / name / "1.png")
    part = OTHER_PARTS["the flower"].resize((96, 96))
    functions: dict[str, Any] = {
        "detect": clipself.predict_images, "segment": clipself.predict_segments, "panoptic": clipself.predict_panoptic,
    }  # fmt: skip
    functions[task](images=part, examples=tmp_path / "examples", out=tmp_path / "out", device="cpu")
    held = json.loads((tmp_path / "out/results.json").read_text())
    assert held["names"] == ["the cat", "the flower"]
    result = clipself.label(
        images=part, examples=tmp_path / "examples", out=tmp_path / "labels", device="cpu", task=task, threshold=0.0
    )
    assert set(result.objects) == {"the cat", "the flower"}
    if task == "segment":
        assert held["images"][0]["classes"][0]["name"] == "the flower"


def test_show_draws_where_a_thing_of_pictures_is(tmp_path: Path) -> None:
    part = OTHER_PARTS["the flower"].resize((64, 64))
    drawn = [
        show_query(part, text, out=tmp_path / f"{place}.png", examples=given, image_size=64, device="cpu")
        for place, (text, given) in enumerate((("the flower", EXAMPLES), ("the cat", EXAMPLES), ("the flower", None)))
    ]
    assert len({path.read_bytes() for path in drawn}) == 3
    with pytest.raises(ValueError, match="there are no examples of 'a dog', only of the cat, the flower"):
        show_query(part, "a dog", out=tmp_path / "3.png", examples=EXAMPLES, device="cpu")
