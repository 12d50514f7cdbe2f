"""Segmentation without training: windows, synonyms, background, memory."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tests.support.tiny import tiny_eva_clip, tiny_openai_clip

from clipself.ops.axes import unfold_axis
from clipself.segmentation.training_free.regions import region_map
from clipself.segmentation.training_free.segmenter import TrainingFree
from clipself.segmentation.training_free.settings import TrainingFreeSettings

SMALL = TrainingFreeSettings(templates="simple", shortest=48, window=32, stride=16)
NAMES = ("cat", "dog", "sky", "grass")


def picture(height: int = 60, width: int = 80) -> Image.Image:
    pixels = torch.randint(0, 256, (6, 8, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Image.fromarray(pixels.numpy()).resize((width, height))


def linear(values: list[float], place: float) -> float:
    """A row of cells read at a place between their centres; beyond the outer ones it stays."""
    place = min(max(place, 0.0), len(values) - 1.0)
    left = min(int(place), len(values) - 2) if len(values) > 1 else 0
    share = place - left
    return values[left] if len(values) == 1 else values[left] * (1 - share) + values[left + 1] * share


def enlarge(cells: list[list[float]], rows: int, cols: int) -> list[list[float]]:
    """Bilinear by hand: pixel centres at (i + 0.5) / length."""
    height, width = len(cells), len(cells[0])
    wide = [[linear(row, (x + 0.5) * width / cols - 0.5) for x in range(cols)] for row in cells]
    columns = [[linear([row[x] for row in wide], (y + 0.5) * height / rows - 0.5) for y in range(rows)]
               for x in range(cols)]  # fmt: skip
    return [[column[y] for column in columns] for y in range(rows)]


@torch.no_grad()
@pytest.mark.parametrize("readout", ["maskclip", "sclip", "clearclip", "naclip"])
def test_scores_are_windows_resized_averaged_and_resized(readout: str) -> None:
    """By hand, pixel by pixel: 48 x 64 holds 2 x 3 windows of 32 at every 16."""
    clip, image = tiny_openai_clip(), picture()
    segmenter = TrainingFree(clip, NAMES, replace(SMALL, readout=readout))
    scores = torch.cat(list(segmenter.score(image)))
    pixels = clip.preprocess(image, size=(48, 64))
    total = [[[0.0] * 64 for _ in range(48)] for _ in NAMES]
    count = [[0] * 64 for _ in range(48)]
    for top in (0, 16):
        for left in (0, 16, 32):
            (dense,) = clip.dense_map(pixels[None, :, top : top + 32, left : left + 32], readout=readout)
            cosine = torch.einsum("dyx,kd->kyx", dense, segmenter.texts_SD)
            for k, cells in enumerate(cosine.tolist()):
                for y, row in enumerate(enlarge(cells, 32, 32)):
                    for x, value in enumerate(row):
                        total[k][top + y][left + x] += value
                        count[top + y][left + x] += k == 0
    for k in range(len(NAMES)):
        mean = [[total[k][y][x] / count[y][x] for x in range(64)] for y in range(48)]
        torch.testing.assert_close(scores[k], 40 * torch.tensor(enlarge(mean, 60, 80)), rtol=1e-4, atol=1e-4)
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


def test_a_strip_costs_no_more_than_another_picture() -> None:
    """2000 x 1 pixels would be 96 000 wide at a shortest side of 48; the longest side is bounded."""
    segmenter = TrainingFree(tiny_openai_clip(), NAMES, SMALL)
    reading = segmenter.read(Image.new("RGB", (20_000, 1), (10, 90, 30)))
    assert max(reading.size) <= 2560
    assert segmenter.label(Image.new("RGB", (2000, 1), (10, 90, 30))).shape == (1, 2000)


@torch.no_grad()
def test_a_readout_with_windows_takes_the_place_of_the_protocol_s() -> None:
    clip, image = tiny_openai_clip(), picture()
    named = "value:window=32,stride=16"
    segmenter = TrainingFree(clip, NAMES, replace(SMALL, readout=named))
    dense = clip.dense_map(clip.preprocess(image, size=(48, 64))[None], readout=named)
    cosine = torch.einsum("bdyx,kd->bkyx", dense, segmenter.texts_SD)
    whole = F.interpolate(cosine, size=(48, 64), mode="bilinear")
    expected = 40 * F.interpolate(whole, size=(60, 80), mode="bilinear")[0]
    torch.testing.assert_close(torch.cat(list(segmenter.score(image))), expected)


def halves(image: Image.Image) -> torch.Tensor:
    """The left half is a region, the top of the right half another, the rest is of none."""
    regions = torch.full((image.height, image.width), -1)
    regions[:, : image.width // 2] = 4
    regions[: image.height // 2, image.width // 2 :] = 9
    return regions


@torch.no_grad()
def test_a_region_takes_the_class_of_most_of_its_pixels() -> None:
    clip, image = tiny_openai_clip(), picture()
    plain = TrainingFree(clip, NAMES, SMALL).label(image)
    found = TrainingFree(clip, NAMES, SMALL, regions=halves).label(image)
    expected = plain.clone()
    for rows, cols in ((slice(0, 60), slice(0, 40)), (slice(0, 30), slice(40, 80))):
        votes = [sum(int(label == k) for row in plain[rows, cols].tolist() for label in row) for k in range(len(NAMES))]
        expected[rows, cols] = votes.index(max(votes))
    assert torch.equal(found, expected)
    assert not torch.equal(found, plain)
    kept = TrainingFree(clip, NAMES, replace(SMALL, by_region=False), regions=halves)
    assert torch.equal(kept.label(image), plain)


@pytest.mark.parametrize("count", [4, 60])
def test_labels_are_the_best_of_all_scores(count: int) -> None:
    names = [f"thing {number}, object {number}" for number in range(count)]
    segmenter, image = TrainingFree(tiny_openai_clip(), names, SMALL), picture()
    found, scores = segmenter.segment(image), torch.cat(list(segmenter.score(image)))
    assert torch.equal(found.labels_HW, unfold_axis(scores, 0, (count, 2)).amax(1).argmax(0))
    torch.testing.assert_close(found.scores_HW, scores.amax(0))


@torch.no_grad()
def test_corrclip_is_given_the_regions_of_each_window() -> None:
    clip, image = tiny_openai_clip(), picture()
    settings = replace(SMALL, readout="corrclip:merge=1.1", by_region=False)
    segmenter = TrainingFree(clip, NAMES, settings, regions=halves)
    reading = segmenter.read(image)
    pixels = clip.preprocess(image, size=(48, 64))[None]
    columns = torch.arange(64) < 32
    regions = torch.where(columns, 4, torch.where(torch.arange(48)[:, None] < 24, 9, -1))[None]
    for place, (top, left) in enumerate([(0, 0), (0, 16), (0, 32), (16, 0), (16, 16), (16, 32)]):
        cut = (slice(None), slice(top, top + 32), slice(left, left + 32))
        alone = clip.dense_map(pixels[(slice(None), *cut)], readout="corrclip:merge=1.1", regions=regions[cut])
        torch.testing.assert_close(reading.dense_VDyx[place], alone[0])


def test_masks_as_regions() -> None:
    masks = torch.zeros(3, 2, 4, dtype=torch.bool)
    masks[0, :, :3] = True  # six pixels
    masks[1, 0, 1:3] = True  # two pixels within them
    assert region_map(masks).tolist() == [[0, 1, 1, -1], [0, 0, 0, -1]]
