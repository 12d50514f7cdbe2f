import pytest

from clipself.text.nouns import known_nouns, nouns_of


@pytest.mark.parametrize(
    ("caption", "nouns"),
    [
        pytest.param("A cat on a couch.", ("cat", "couch"), id="plain"),
        pytest.param("Two men ride horses", ("man", "horse"), id="plurals-regular-and-not"),
        pytest.param("a traffic light by the road", ("traffic light", "road"), id="the-longest-wins"),
        pytest.param("knives, cherries and glasses", ("knife", "cherry", "glass"), id="endings"),
        pytest.param("dog dog DOG", ("dog",), id="once"),
        pytest.param("running quickly through it", (), id="none"),
    ],
)
def test_nouns_of_sentences(caption: str, nouns: tuple[str, ...]) -> None:
    assert nouns_of(caption) == nouns


def test_names_are_known_as_they_are_spoken() -> None:
    assert {"sky", "bow", "person", "woman"} <= known_nouns()  # "sky-other-merged", "bow_(weapon)"
    assert not any("(" in name or "_" in name or "," in name for name in known_nouns())
