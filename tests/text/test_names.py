"""The grammar of names: the same words mean the same classes, typed anywhere."""

from pathlib import Path

import pytest

from clipself.text import Vocabulary, load_vocabulary, parse_names
from clipself.text.names import Names, listed


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        pytest.param("cat", ["cat"], id="one word"),
        pytest.param(["cat", "traffic light"], ["cat", "traffic light"], id="words"),
        pytest.param("cat, dog,kite", ["cat", "dog", "kite"], id="commas"),
        pytest.param(["cat, dog", "kite"], ["cat", "dog", "kite"], id="commas among words"),
        pytest.param("cat; dog", ["cat", "dog"], id="semicolons"),
        pytest.param("cat, kitten; dog", ["cat, kitten", "dog"], id="synonyms"),
        pytest.param("cat, kitten;", ["cat, kitten"], id="synonyms of one class"),
        pytest.param(["traffic_light"], ["traffic_light"], id="an underscore is no vocabulary"),
        pytest.param(["Häuser", "狗"], ["Häuser", "狗"], id="any letters"),
    ],
)
def test_names_as_they_are_typed(typed: Names, names: list[str]) -> None:
    assert list(parse_names(typed).names) == names


def test_files_vocabularies_and_words_go_together(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes("red kite\r\ncar, automobile\r\n".encode("utf-8-sig"))
    assert parse_names(path).names == parse_names(str(path)).names == ("red kite", "car, automobile")
    both = parse_names(["coco_80", "a unicorn", str(path)])
    assert both.names == (*load_vocabulary("coco_80").names, "a unicorn", "red kite", "car, automobile")
    assert both.ids == tuple(range(1, 84))
    assert parse_names("coco_80") == load_vocabulary("coco_80")
    own = Vocabulary.of(["a", "b"])
    assert parse_names(own) is own


def test_stuff_is_told_from_things(tmp_path: Path) -> None:
    found = parse_names(["cat", "grass", "dog"], stuff="grass, sky")
    assert found.names == ("cat", "grass", "dog", "sky")
    assert found.is_thing == (True, False, True, False)
    spelt = parse_names(["cat", "green_grass"], stuff="Green grass")  # one class, however it is spelt
    assert (spelt.names, spelt.is_thing) == (("cat", "green_grass"), (True, False))
    assert parse_names([], stuff=["sky"]).is_thing == (False,)
    panoptic = load_vocabulary("coco_panoptic_133")
    assert parse_names("coco_panoptic_133").is_thing == panoptic.is_thing
    path = tmp_path / "stuff.txt"
    path.write_text("sea\n")
    assert parse_names("boat", stuff=path).is_thing == (True, False)


def test_a_vocabulary_knows_its_groups() -> None:
    found = load_vocabulary("ov_coco_65")
    assert (len(found.base), len(found.novel)) == (48, 17)
    assert (found.base[0], found.novel[0]) == ("person", "airplane")


def test_what_cannot_be_names(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are no names to look for"):
        parse_names([" ", ";"])
    with pytest.raises(ValueError, match="'cat' more than once"):
        parse_names("cat, dog, cat")
    with pytest.raises(FileNotFoundError, match=r"no list of names at .*gone\.txt"):
        parse_names(str(tmp_path / "gone.txt"))
    path = tmp_path / "latin.txt"
    path.write_bytes("k\xe4tzchen\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.txt is not UTF-8 text"):
        parse_names(path)


def test_a_list_in_utf_16_is_read(tmp_path: Path) -> None:
    path = tmp_path / "wide.txt"
    path.write_bytes("häuser\nhund\n".encode("utf-16"))
    assert parse_names(path).names == ("häuser", "hund")


def test_listed_names_are_names_or_nothing(tmp_path: Path) -> None:
    (tmp_path / "novel.txt").write_text("kite\n")
    assert listed(None) is None
    assert listed((str(tmp_path / "novel.txt"), "cat, dog")) == ["kite", "cat", "dog"]


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        pytest.param("classes.csv", "the name of a file", id="a table"),
        pytest.param(["cat", "labels.JSON"], "the name of a file", id="JSON"),
        pytest.param(["cat", "photo.jpg"], "the name of a file", id="a picture behind the names"),
        pytest.param('["cat", "dog"]', "a list in JSON or Python", id="a list"),
        pytest.param("('cat', 'dog')", "a list in JSON or Python", id="a tuple"),
        pytest.param("{0: 'cat'}", "a list in JSON or Python", id="a dictionary"),
        pytest.param("'cat', 'dog'", "in quotes", id="quotes"),
        pytest.param(['"cat"'], "in quotes", id="quotes of a shell"),
        pytest.param("cat . dog .", "dots between names", id="dots"),
        pytest.param("a cat. a remote control.", "dots between names", id="sentences"),
        pytest.param("0: cat, 1: dog", "numbered", id="numbers"),
        pytest.param("1. cat\n2. dog", "numbered", id="numbered lines"),
        pytest.param("COCO-80", "the packaged vocabulary is 'coco_80'", id="a vocabulary spelt otherwise"),
        pytest.param({"cat", "dog"}, "which has no order", id="a set"),
        pytest.param(frozenset(["cat"]), "which has no order", id="a frozen set"),
    ],
)
def test_words_that_can_mean_no_names(typed: Names, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_names(typed)


def test_a_word_that_is_a_file_here_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("labelmap", "cat", "list.of.things"):
        (tmp_path / name).write_text("dog\n")
    assert parse_names("cat").names == ("cat",)
    for word in ("./labelmap", "list.of.things", str(tmp_path / "cat")):
        with pytest.raises(ValueError, match="is a file; names come from words"):
            parse_names(word)
    (tmp_path / "coco.names").write_text("cat\nfire hydrant\n")
    (tmp_path / "UPPER.TXT").write_text("cat\nfire hydrant\n")
    assert parse_names("coco.names").names == parse_names("UPPER.TXT").names == ("cat", "fire hydrant")


def test_lines_of_a_word_separate_classes_as_lines_of_a_file_do() -> None:
    assert parse_names("cat\ndog\n").names == ("cat", "dog")
    assert parse_names("cat, kitten\r\ndog").names == ("cat, kitten", "dog")


@pytest.mark.parametrize(
    "typed", ["St. Bernard", "u.s. flag", "a 7 up can", "cat/dog", "no. 5", "mp3 player", "dr. j."]
)
def test_signs_that_are_part_of_names(typed: str) -> None:
    assert parse_names(typed).names == (typed,)


def test_the_name_of_a_data_set_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert parse_names("coco").names == ("coco",)
    assert "the packaged vocabularies are coco_80" in caplog.text
    caplog.clear()
    assert parse_names("cocoa").names == ("cocoa",)
    assert not caplog.text
