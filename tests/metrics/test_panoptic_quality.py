import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from clipself.data.images import segment_colours
from clipself.data.panoptic import PanopticFile, PanopticWriter
from clipself.metrics.panoptic_quality import LabelledSegment, PanopticQuality
from clipself.structures import Panoptic, PanopticSegment

IS_THING = (True, True, False)


def random_image(seed: int) -> tuple[NDArray[np.int64], dict[int, int], NDArray[np.int64], list[LabelledSegment]]:
    """Blocks as truth; the same blocks shifted and partly relabelled as prediction; void in both; crowds."""
    draw = np.random.default_rng(seed)
    truth = np.kron(draw.integers(0, 7, (4, 5)), np.ones((5, 5), dtype=np.int64))
    found = np.roll(truth, tuple(draw.integers(0, 3, 2)), axis=(0, 1))
    found = np.where(draw.random(found.shape) < 0.05, draw.integers(0, 7, found.shape), found)
    labels = draw.integers(0, 3, 8)
    segments = [
        LabelledSegment(id=int(one), label=int(labels[one]), is_crowd=bool(draw.random() < 0.25) and labels[one] < 2)
        for one in np.unique(truth)
        if one
    ]
    crowded: set[int] = set()
    unique = []
    for segment in segments:  # at most one crowd a class, as COCO has it
        crowd = segment.is_crowd and segment.label not in crowded
        crowded |= {segment.label} if crowd else set()
        unique.append(LabelledSegment(id=segment.id, label=segment.label, is_crowd=crowd))
    guesses = {
        int(one): int(labels[one] if draw.random() < 0.8 else draw.integers(0, 3)) for one in np.unique(found) if one
    }
    return found, guesses, truth, unique


def naive(
    images: list[tuple[NDArray[np.int64], dict[int, int], NDArray[np.int64], list[LabelledSegment]]],
) -> dict[int, list[float]]:
    """Class -> [sum of IoU, tp, fp, fn] by boolean masks, straight from the definition."""
    table = {label: [0.0, 0, 0, 0] for label in range(3)}
    for found, guesses, truth, segments in images:
        void = truth == 0
        hit_truth, hit_found = set(), set()
        for segment in segments:
            for one, label in guesses.items():
                if segment.is_crowd or label != segment.label:
                    continue
                p, g = (found == one) & ~void, truth == segment.id
                iou = (p & g).sum() / (p | g).sum()
                if iou > 0.5:
                    table[label][0] += iou
                    table[label][1] += 1
                    hit_truth.add(segment.id)
                    hit_found.add(one)
        for segment in segments:
            table[segment.label][3] += segment.id not in hit_truth and not segment.is_crowd
        for one, label in guesses.items():
            if one in hit_found:
                continue
            excused = void.copy()
            for segment in segments:
                if segment.is_crowd and segment.label == label:
                    excused |= truth == segment.id
            area = found == one
            table[label][2] += (area & excused).sum() <= area.sum() / 2
    return table


def test_it_agrees_with_the_definition_on_random_maps_with_crowds_and_void() -> None:
    images = [random_image(seed) for seed in range(40)]
    meter, half = PanopticQuality(IS_THING), PanopticQuality(IS_THING)
    for index, image in enumerate(images):
        (meter if index % 2 else half).update(*image)
    meter.merge(half)
    table = naive(images)
    assert sum(row[1] for row in table.values()) > 20
    assert all(count > 0 for row in table.values() for count in row)
    scores = meter.compute()
    expected = []
    for label, (iou, tp, fp, fn) in table.items():
        assert (meter.hits[label], meter.false[label], meter.missed[label]) == (tp, fp, fn)
        pq, sq, rq = 100 * iou / (tp + fp / 2 + fn / 2), 100 * iou / tp, 100 * tp / (tp + fp / 2 + fn / 2)
        row = scores.per_class[label]
        assert (row.pq, row.sq, row.rq) == pytest.approx((pq, sq, rq))
        assert row.pq == pytest.approx(row.sq * row.rq / 100)
        expected.append(pq)
    assert scores.overall.pq == pytest.approx(sum(expected) / 3)
    assert scores.things.pq == pytest.approx((expected[0] + expected[1]) / 2)
    assert scores.stuff.pq == pytest.approx(expected[2])
    assert any(segment.is_crowd for *_, segments in images for segment in segments)


def test_a_perfect_map_scores_100() -> None:
    _, _, truth, segments = random_image(3)
    meter = PanopticQuality(IS_THING)
    plain = [LabelledSegment(id=one.id, label=one.label) for one in segments]
    meter.update(truth, {one.id: one.label for one in plain}, truth, plain)
    scores = meter.compute()
    assert (scores.overall.pq, scores.overall.sq, scores.overall.rq) == (100, 100, 100)


def test_exactly_half_is_no_match_and_void_is_cut_out_of_the_union() -> None:
    truth = np.array([[1, 1, 1, 1, 0, 0]])
    half, more = np.array([[1, 1, 0, 0, 0, 0]]), np.array([[1, 1, 1, 0, 1, 1]])
    meter = PanopticQuality([True])
    meter.update(half, {1: 0}, truth, [LabelledSegment(id=1, label=0)])
    assert (meter.hits[0], meter.false[0], meter.missed[0]) == (0, 1, 1)
    meter.update(more, {1: 0}, truth, [LabelledSegment(id=1, label=0)])
    assert (meter.hits[0], meter.iou_sum[0]) == (1, 0.75)


def test_an_empty_prediction_misses_all_and_an_empty_set_has_no_score() -> None:
    meter = PanopticQuality([True, False])
    assert math.isnan(meter.compute().overall.pq)
    meter.update(np.zeros((2, 2), int), {}, np.ones((2, 2), int), [LabelledSegment(id=1, label=0)])
    scores = meter.compute()
    assert (scores.overall.pq, scores.overall.classes, meter.missed[0]) == (0, 1, 1)
    assert math.isnan(scores.stuff.pq)


def test_maps_and_lists_must_agree() -> None:
    meter = PanopticQuality([True])
    with pytest.raises(ValueError, match="resize it first"):
        meter.update(np.zeros((2, 2), int), {}, np.zeros((2, 3), int), [])
    with pytest.raises(ValueError, match=r"ids \[3\], its list \[4\]"):
        meter.update(np.full((2, 2), 3), {4: 0}, np.zeros((2, 2), int), [])


IDS: dict[str, tuple[Callable[[int], int | str], Callable[[int], int | str], Callable[[int], int]]] = {
    "from-zero": (lambda image: image, lambda label: label, lambda segment: segment),
    "shifted": (lambda image: 10**9 + image, lambda label: 200 + label, lambda segment: 70001 * segment),
    "permuted": (lambda image: 9 - image, lambda label: (label + 2) % 3, lambda segment: 5 * segment % 7),
    "text": (lambda image: f"p/{image}", lambda label: f"{label}", lambda segment: 255 * segment),
}
"""Ids of picture, class and segment (1 to 6) in the file."""


@pytest.mark.parametrize("kind", IDS)
def test_the_ids_of_a_file_change_no_number(kind: str, tmp_path: Path) -> None:
    """Truth is read from disk, predictions are written to disk and read back, both under ids of any kind."""
    image_of, class_of, segment_of = IDS[kind]
    images = [random_image(seed) for seed in range(8)]
    table, names = naive(images), ["cat", "dog", "grass"]
    order = [2, 0, 1]  # of the classes in the file
    rows: list[Any] = [[], []]
    (tmp_path / "truth").mkdir()
    renumber = np.vectorize(lambda segment: segment_of(segment) if segment else 0)
    for place, (_, _, truth, segments) in enumerate(images):
        Image.new("RGB", truth.shape[::-1]).save(tmp_path / f"{place}.png")
        Image.fromarray(segment_colours(renumber(truth))).save(tmp_path / "truth" / f"{place}.png")
        infos = [
            {"id": segment_of(one.id), "category_id": class_of(one.label), "iscrowd": int(one.is_crowd)}
            for one in segments
        ]
        rows[0].append({"id": image_of(place), "file_name": f"{place}.png", "height": 20, "width": 25})
        rows[1].append({"image_id": image_of(place), "file_name": f"{place}.png", "segments_info": infos})
    held = {
        "images": rows[0], "annotations": rows[1][::-1],
        "categories": [{"id": class_of(one), "name": names[one], "isthing": int(IS_THING[one])} for one in order],
    }  # fmt: skip
    (tmp_path / "truth.json").write_text(json.dumps(held))
    data = PanopticFile(tmp_path / "truth.json", tmp_path)
    writer = PanopticWriter(
        tmp_path / "found", class_ids=data.class_ids, class_names=data.class_names, class_is_thing=data.class_is_thing
    )
    for index in range(len(data)):
        place = int(Path(data.paths[index]).stem)
        found, guesses, _, _ = images[place]
        infos_found = tuple(
            PanopticSegment(id=segment_of(one), label=data.class_names.index(names[label]), is_thing=True, score=1.0)
            for one, label in guesses.items()
        )
        writer.add(
            Panoptic(ids_HW=torch.from_numpy(renumber(found)), segments=infos_found),
            image_id=data.read(index).image_id, file=f"{place}.png", name=f"{place}",
        )  # fmt: skip
    writer.close()
    written = PanopticFile(tmp_path / "found" / "panoptic.json", tmp_path)
    back = {one.image_id: one for one in map(written.read, range(len(written)))}
    meter = PanopticQuality(data.class_is_thing)
    for asked in map(data.read, range(len(data))):
        answer = back[asked.image_id]
        labels = {one.id: data.class_names.index(written.class_names[one.label]) for one in answer.segments}
        meter.update(answer.ids_HW, labels, asked.ids_HW, asked.segments)
    scores = meter.compute()
    assert scores.overall.classes == 3
    for label, (iou, tp, fp, fn) in table.items():
        row = scores.per_class[data.class_names.index(names[label])]
        assert row.pq == pytest.approx(100 * iou / (tp + fp / 2 + fn / 2))


@pytest.mark.parametrize(
    ("found_id", "label", "truth", "said"),
    [
        (256**3, 0, [LabelledSegment(id=1, label=0)], "the predicted map holds ids from 0 to 16777216, expected 0"),
        (-1, 0, [LabelledSegment(id=1, label=0)], "the predicted map holds ids from -1 to 0"),
        (5, 0, [LabelledSegment(id=1, label=0)] * 2, "two true segments have one id"),
        (5, 2, [LabelledSegment(id=1, label=0)], "the label 2 is none of the 2 classes"),
        (5, 0, [LabelledSegment(id=1, label=-1)], "the label -1 is none of the 2 classes"),
    ],
)
def test_ids_and_labels_that_would_be_taken_for_others(
    found_id: int, label: int, truth: list[LabelledSegment], said: str
) -> None:
    found_HW = np.zeros((4, 4), dtype=np.int64)
    found_HW[:2] = found_id
    with pytest.raises(ValueError, match=said):
        PanopticQuality([True, False]).update(found_HW, {found_id: label}, np.ones((4, 4), dtype=np.int64), truth)
