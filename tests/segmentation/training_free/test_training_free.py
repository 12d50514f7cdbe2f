"""Segmentation without training: windows, synonyms, background, memory."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tests.support.tiny import tiny_eva_clip, tiny_openai_clip

from clipself.ops.windows import cut_windows, merge_windows, place_windows, resize_map
from clipself.segmentation.training_free.segmenter import TrainingFree
from clipself.segmentation.training_free.settings import TrainingFreeSettings

SMALL = TrainingFreeSettings(templates="simple", shortest=48, window=32, stride=16)
NAMES = ("cat", "dog", "sky", "grass")


def picture(height: int = 60, width: int = 80) -> Image.Image:
    pixels = torch.randint(0, 256, (6, 8, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Image.fromarray(pixels.numpy()).resize((width, height))


@torch.no_grad()
@pytest.mark.parametrize("readout", ["maskclip", "sclip", "clearclip", "naclip"])
def test_scores_are_windows_resized_averaged_and_resized(readout: str) -> None:
    clip, image = tiny_openai_clip(), picture()
    segmenter = TrainingFree(clip, NAMES, replace(SMALL, readout=readout))
    scores = torch.cat(list(segmenter.score(image)))
    pixels = clip.preprocess(image, size=(48, 64))
    windows = place_windows((48, 64), window=(32, 32), stride=(16, 16))
    dense = clip.dense_map(cut_windows(pixels, windows), readout=readout)
    cosine = torch.einsum("vdyx,kd->vkyx", dense, segmenter.texts_SD)
    torch.testing.assert_close(scores, 40 * resize_map(merge_windows(cosine, windows, (48, 64)), (60, 80)))
    assert torch.equal(segmenter.label(image), scores.argmax(0))


@torch.no_grad()
def test_a_window_that_covers_the_picture_equals_the_whole() -> None:
    clip, image = tiny_eva_clip(), picture()
    segmenter = TrainingFree(clip, NAMES, replace(SMALL, window=256, stride=64))
    dense = clip.dense_map(clip.preprocess(image, size=(48, 64))[None])
    cosine = torch.einsum("bdyx,kd->bkyx", dense, segmenter.texts_SD)
    whole = F.interpolate(cosine, size=(48, 64), mode="bilinear")
    expected = 40 * F.interpolate(whole, size=(60, 80), mode="bilinear")[0]
    torch.testing.assert_close(torch.cat(list(segmenter.score(image))), expected)


@torch.no_grad()
def test_pixels_without_a_probable_class_become_background() -> None:
    clip, image = tiny_openai_clip(), picture()
    names = ("background", "cat", "dog, puppy", "sky")
    settings = replace(SMALL, logit_scale=2.0)
    scores = torch.cat(list(TrainingFree(clip, names, settings).score(image)))
    best = scores.softmax(0).amax(0)
    threshold = float(best.median())
    labels = TrainingFree(clip, names, replace(settings, threshold=threshold)).label(image)
    class_of = torch.tensor([0, 1, 2, 2, 3])
    assert torch.equal(labels, class_of[scores.argmax(0)].where(best >= threshold, 0))
    assert 0.3 < (best < threshold).float().mean() < 0.7


def test_classes_in_groups_give_the_same_labels() -> None:
    clip, image = tiny_openai_clip(), picture()
    whole = TrainingFree(clip, NAMES, replace(SMALL, threshold=0.0)).label(image)
    assert torch.equal(TrainingFree(clip, NAMES, replace(SMALL, classes_at_once=1)).label(image), whole)


def test_settings_that_do_not_fit_are_said() -> None:
    clip = tiny_openai_clip()
    with pytest.raises(ValueError, match=r"threshold=0\.1 needs a class 'background'"):
        TrainingFree(clip, NAMES, replace(SMALL, threshold=0.1))
    with pytest.raises(ValueError, match=r"window=30 is no multiple of the patch of 8 pixels; try 32"):
        TrainingFree(clip, NAMES, replace(SMALL, window=30))
    with pytest.raises(ValueError, match="unknown readout 'clip'"):
        replace(SMALL, readout="clip")
    with pytest.raises(ValueError, match=r"threshold=1.5 is not in \[0, 1\)"):
        replace(SMALL, threshold=1.5)
