"""Pictures: the truth in their pixels."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clipself.viz.bars import draw_comparison, draw_loss
from clipself.viz.heatmap import common_scale, draw_query, paint_heat
from clipself.viz.kmeans import COLOURS, cluster_map, draw_kmeans, match_groups, paint_groups
from clipself.viz.panels import lay_out
from clipself.viz.report import ReportPage


def three_parts() -> NDArray[np.float32]:
    """A map of three directions: 8 patches of one, 6 of another, 2 of a third."""
    labels = np.array([[0] * 4, [0] * 4, [1] * 4, [1, 1, 2, 2]])
    parts: NDArray[np.float32] = np.eye(3, dtype=np.float32)[labels].transpose(2, 0, 1)
    return parts


def test_groups_are_found_and_numbered_by_size() -> None:
    expected = [[0] * 4, [0] * 4, [1] * 4, [1, 1, 2, 2]]
    assert cluster_map(three_parts(), clusters=3).tolist() == expected
    with pytest.raises(ValueError, match="leaves nothing to colour"):
        cluster_map(three_parts(), clusters=0)


def test_matched_groups_share_numbers() -> None:
    groups = cluster_map(three_parts(), clusters=3)
    renamed = np.array([2, 0, 1])[groups]
    assert match_groups(renamed, groups, clusters=3).tolist() == groups.tolist()


def test_colours_are_those_of_the_groups() -> None:
    painted = np.asarray(paint_groups(cluster_map(three_parts(), clusters=3), size=(40, 40)))
    assert painted[0, 0].tolist() == COLOURS[0].tolist()
    assert painted[39, 39].tolist() == COLOURS[2].tolist()


def test_heat_is_hot_where_it_should_be() -> None:
    similarity = np.zeros((4, 4), dtype=np.float32)
    similarity[0, 0] = 1.0
    heat = np.asarray(paint_heat(similarity, Image.new("RGB", (64, 64)), low=0, high=1, opacity=1.0)).astype(int)
    assert heat[2, 2, 0] > heat[60, 60, 0] + 50
    luma = heat @ np.array([0.299, 0.587, 0.114])
    assert luma[2, 2] > luma[60, 60] + 100  # the ends differ without colours too


def test_rows_of_one_query_share_their_scale_and_show_it() -> None:
    weak, strong = np.full((4, 4), 0.1, dtype=np.float32), np.full((4, 4), 0.5, dtype=np.float32)
    low, high = common_scale([weak, strong])
    assert (low, high) == pytest.approx((0.1, 0.5))
    grey = Image.new("RGB", (80, 80), (128, 128, 128))
    row = np.asarray(draw_query(grey, "a cat", [("a", weak), ("b", strong)], opacity=1.0)).astype(int)
    cold, hot = row[150, 8 + 280 + 8 + 140], row[150, 8 + 2 * (280 + 8) + 140]
    assert np.abs(cold - hot).sum() > 200
    bar = row[:, 8 + 3 * (280 + 8) + 5]  # from the hot end to the cold one
    assert np.abs(bar[26] - hot).max() <= 2
    assert np.abs(bar[-9] - cold).max() <= 2
    alone = np.asarray(draw_query(grey, "a cat", [("a", weak)], scale=(0.1, 0.5), opacity=1.0)).astype(int)
    assert (alone[150, 8 + 280 + 8 + 140] == cold).all()
    for maps in ([], [np.full((2, 2), np.nan, dtype=np.float32)]):
        with pytest.raises(ValueError, match="no similarities to draw"):
            common_scale(maps)


def test_rows_have_the_pictures_asked_for() -> None:
    row = draw_kmeans(Image.new("RGB", (80, 40)), [("a", three_parts()), ("b", three_parts())], clusters=3)
    assert row.height == 280 + 26 + 8
    assert row.width == 3 * (560 + 8) + 8
    with pytest.raises(ValueError, match="no pictures to lay out"):
        lay_out([])


def test_charts_are_written(tmp_path: Path) -> None:
    report = {"model": "m", "scores": {"boxes": {"top1": 12.5}}}
    for path in (
        draw_comparison([report, report], path=tmp_path / "a.png"),
        draw_loss([{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}], path=tmp_path / "b.png"),
    ):
        with Image.open(path) as chart:
            assert chart.width > 400
    with pytest.raises(ValueError, match="no scores to draw"):
        draw_comparison([{"model": "m", "scores": {}}], path=tmp_path / "c.png")


def test_a_page_holds_everything_and_fetches_nothing(tmp_path: Path) -> None:
    page = ReportPage("Title <1>", lead="lead")
    page.heading("one")
    page.table(["a", "b"], [["1", "2"]], best=0)
    page.picture(Image.new("RGB", (4, 4)), caption='a "cat"')
    page.code("clipself distill --data <folder>")
    text = page.write(tmp_path / "index.html").read_text()
    assert "Title &lt;1&gt;" in text
    assert 'src="data:image/jpeg;base64,' in text
    assert 'alt="a &quot;cat&quot;"' in text
    assert "http" not in text
