"""Texts of OWL-ViT; the published examples are in tests/conformance."""

import pytest

from clipself.text.canonical import canonical, is_forbidden, prompted, rare_labels, training_templates


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        pytest.param("Fire_Hydrant", "fire hydrant", id="case-and-underscore"),
        pytest.param("  a   b ", "a b", id="blanks"),
        pytest.param("x--y", "x-y", id="dashes"),
        pytest.param("naïve", "na ve", id="beyond-ascii"),
        pytest.param("#Old #house", "#old house", id="only-the-first-mark-stays"),
    ],
)
def test_canonical(text: str, wanted: str) -> None:
    assert canonical(text) == wanted


def test_a_marked_text_gets_no_prompt_and_loses_its_mark() -> None:
    assert prompted("Old House", "a photo of the {}.") == "a photo of the old house"
    assert prompted("#Old House", "a photo of the {}.") == "old house"


def test_the_templates_of_training_are_clips_eighty_and_the_name_alone() -> None:
    assert len(set(training_templates())) == 81
    assert training_templates()[-1] == "{}"


def test_rare_names_are_forbidden() -> None:
    assert is_forbidden("First-Aid_Kit")
    assert not is_forbidden("first aid kit")  # the dash of the rare name is deleted, not made a blank
    assert not is_forbidden("person")
    assert len(rare_labels().all) == 337 + 4
    assert is_forbidden("#Tall-house", ["tallhouse"])


@pytest.mark.parametrize(
    ("text", "forbidden"),
    [
        pytest.param("apple sauce", True, id="written-apart"),
        pytest.param("Sea-planes", True, id="apart-and-plural"),
        pytest.param("burritos", True, id="plural"),
        pytest.param("wash basins", True, id="plural-of-two-words"),
        pytest.param("beef stew", True, id="a-kind-of-it"),
        pytest.param("Omelette", True, id="other-spelling"),
        pytest.param("wooden axe", True, id="a-kind-of-another-spelling"),
        pytest.param("expiration date", False, id="lvis-means-the-fruit"),
        pytest.param("stew pot", False, id="a-kind-of-something-else"),
        pytest.param("bus", False, id="a-word-that-only-ends-like-a-plural"),
        pytest.param("glass", False, id="no-plural"),
        pytest.param("#", False, id="nothing"),
    ],
)
def test_what_is_near_a_rare_name_is_forbidden_too(text: str, forbidden: bool) -> None:
    assert is_forbidden(text) == forbidden
