"""What a CLIP has read is not read again: the same answers, and how often the tower runs."""

from typing import Any

import pytest
import torch
from tests.support.detection import tiny_detector
from tests.support.tiny import tiny_openai_clip

from clipself.backbones.memory import ReadMemory
from clipself.backbones.reading import read_images
from clipself.data.photographs import load_photo
from clipself.detection import Detector
from clipself.panoptic import PanopticSegmenter


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry a pass of any image tower."""
    passes: list[int] = []

    def counted(clip: Any, images: Any, **asked: Any) -> Any:
        passes.append(len(images))
        return read_images(clip, images, **asked)

    monkeypatch.setattr("clipself.backbones.dense_clip.read_images", counted)
    return passes


@torch.no_grad()
def test_the_same_images_are_read_once(runs: list[int]) -> None:
    clip, images = tiny_openai_clip(), torch.rand(2, 3, 32, 32)
    expected = clip.dense_map(images)
    with ReadMemory(clip) as memory:
        torch.testing.assert_close(clip.dense_map(images), expected)
        torch.testing.assert_close(clip.dense_map(images.clone()), expected)
        assert len(runs) == 2
        clip.encode_image(images)
        assert len(runs) == 3
        clip.dense_map(images + 0.1)
        assert len(runs) == 4
    clip.dense_map(images)
    assert len(runs) == 5  # outside, it is a CLIP as before
    with memory:
        clip.dense_map(images + 0.1)
    assert len(runs) == 5


def test_a_detector_looks_once_and_is_asked_often(runs: list[int]) -> None:
    detector = Detector(tiny_detector(score_threshold=0.0))
    picture = (torch.rand(3, 50, 70, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
    with pytest.raises(ValueError, match="there is no picture to look at; call set_image first, or predict"):
        detector.detect()
    expected = {}
    for names in (("cat", "dog"), ("sea", "sky", "cat")):
        (expected[names],) = detector.predict(picture, names=names)
    runs.clear()
    detector.set_image(picture)
    for names, found in expected.items():
        again = detector.detect(names)
        assert again.names == names
        torch.testing.assert_close(again.boxes, found.boxes)
        torch.testing.assert_close(again.scores, found.scores)
    assert len(runs) == 1
    assert len(detector.detect(threshold=0.99)) < len(again)


def test_a_clip_looks_once_and_is_asked_often(runs: list[int]) -> None:
    clip = tiny_openai_clip()
    picture = (torch.rand(3, 50, 70, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
    with pytest.raises(ValueError, match="there is no picture to look at; call set_image first, or dense_map"):
        clip.query(["a cat"])
    image_13HW = clip.preprocess(picture, size=(48, 64))[None]
    with torch.no_grad():
        dense_DYX = {readout: clip.dense_map(image_13HW, readout=readout)[0] for readout in ("value", "qk")}
    runs.clear()
    clip.set_image(picture, size=(48, 64))
    for texts in (["a cat", "a dog"], ["the sea"]):
        for readout, expected_DYX in dense_DYX.items():
            with torch.no_grad():
                cosines = [
                    torch.cosine_similarity(expected_DYX, row[:, None, None], dim=0) for row in clip.encode_text(texts)
                ]
            torch.testing.assert_close(clip.query(texts, readout=readout), torch.stack(cosines))
    assert len(runs) == 2  # one for each readout
    rows_KD = clip.encode_text(["the sea"])
    assert torch.equal(clip.query(rows_KD), clip.query(["the sea"]))
    clip.set_image(picture.flip(-1), size=(48, 64))
    assert not torch.equal(clip.query(rows_KD), torch.stack(cosines))
    assert len(runs) == 3
    with pytest.raises(ValueError, match="call set_image first"):
        clip.copy().query(rows_KD)


def test_masks_are_found_once_and_named_often(runs: list[int]) -> None:
    picture = load_photo("cat").resize((96, 64))
    segmenter = PanopticSegmenter.from_checkpoint(device="cpu")
    expected = {}
    for names in ("cat, dog", "fur, sky, cat"):
        segmenter.use(names)
        expected[names] = segmenter(picture)
    runs.clear()
    segmenter.set_image(picture)
    looked = len(runs)
    for names, found in expected.items():
        segmenter.use(names)
        again = segmenter.segment()
        assert again.panoptic.names == found.panoptic.names
        assert torch.equal(again.panoptic.ids_HW, found.panoptic.ids_HW)
        assert again.panoptic.segments == found.panoptic.segments
        torch.testing.assert_close(again.instances.scores_N, found.instances.scores_N)
    assert len(runs) == looked
