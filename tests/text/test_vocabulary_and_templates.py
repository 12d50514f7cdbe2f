"""Vocabularies as published, sentences by the published rule."""

import re
from pathlib import Path

import pytest

from clipself.text.templates import fill_templates, load_templates, spoken_name
from clipself.text.vocabulary import load_vocabulary


@pytest.mark.parametrize(
    ("name", "classes", "things", "novel"),
    [
        ("coco_80", 80, 80, 0),
        ("coco_panoptic_133", 133, 80, 0),
        ("ov_coco_65", 65, 65, 17),
        ("lvis_v1_1203", 1203, 1203, 337),
        ("ade20k_150", 150, 100, 0),
        ("pascal_context_59", 59, None, 0),
        ("pascal_voc_20", 20, 20, 0),
    ],
)
def test_counts(name: str, classes: int, things: int | None, novel: int) -> None:
    vocab = load_vocabulary(name)
    assert len(vocab) == classes
    assert sum(vocab.is_novel) == novel
    assert things is None or sum(vocab.is_thing) == things
    assert list(vocab.ids) == sorted(vocab.ids)


def test_lvis_frequencies_and_coco_ids() -> None:
    frequency = load_vocabulary("lvis_v1_1203").frequency
    assert [frequency.count(letter) for letter in "fcr"] == [405, 461, 337]
    coco = load_vocabulary("coco_panoptic_133")
    assert (coco.names[0], coco.ids[0]) == ("person", 1)
    assert (coco.names[-1], coco.ids[-1]) == ("rug-merged", 200)
    split = load_vocabulary("ov_coco_65")
    novel = {name for name, new in zip(split.names, split.is_novel, strict=True) if new}
    assert {"airplane", "cat", "scissors", "umbrella"} <= novel
    assert "person" not in novel


def test_names_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("# my things\nred kite\n\nblue tit  # a bird\n")
    assert load_vocabulary(path).names == ("red kite", "blue tit")
    path.write_text("# nothing\n")
    with pytest.raises(ValueError, match="holds no names; write one name a line"):
        load_vocabulary(path)
    path.write_text("cat\ndog\ncat\n")
    with pytest.raises(ValueError, match="holds 'cat' more than once"):
        load_vocabulary(path)
    with pytest.raises(ValueError, match=r"unknown vocabulary 'coco_81'.*did you mean 'coco_80'"):
        load_vocabulary("coco_81")
    with pytest.raises(FileNotFoundError, match="no list of names at"):
        load_vocabulary(tmp_path / "gone.txt")


def test_the_published_sentences() -> None:
    sentences = load_templates("detection")
    assert len(sentences) == 63
    filled = fill_templates("Airplane", sentences)
    assert "There is an airplane in the scene." in filled
    assert "This is a photo of an airplane." in filled
    assert sum(sentence.startswith("This is ") for sentence in filled) == 58
    assert len(load_templates("imagenet")) == 80


def test_names_as_they_are_said() -> None:
    assert spoken_name("stop_sign") == "stop sign"
    assert spoken_name("bus_(vehicle)/Coach.") == "bus (vehicle) or coach"
    assert spoken_name("wall-other-merged") == "wall-other-merged"
    assert spoken_name("wall-other-merged", drop_suffixes=True) == "wall"
    assert fill_templates("owl", ["a photo of {article} {}."]) == ["This is a photo of an owl."]


def test_sentences_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("look, a {}!\n")
    assert fill_templates("cat", load_templates(path)) == ["look, a cat!"]
    path.write_text("no place for the name\n")
    with pytest.raises(ValueError, match=r"has no \{\} for the name"):
        load_templates(path)
    for listed in ('["a {}.", "the {}."]', '"a {}."\n', "a {}.,\nthe {}.,\n"):
        path.write_text(listed)
        with pytest.raises(ValueError, match=r"mine\.txt: .* is part of a list in another language"):
            load_templates(path)
    path.write_text('a {} (close-up)\nmy "{}"\n')
    assert len(load_templates(path)) == 2
    with pytest.raises(ValueError, match="unknown set of templates 'detect'"):
        load_templates("detect")


@pytest.mark.parametrize(
    ("content", "form"),
    [
        ("0: cat\n1: dog\n", "'0: cat' is numbered"),
        ("1\tcat\n2\tdog\n", "numbered"),
        ("0,cat\n1,dog\n2,cow\n", "'0,cat' is numbered"),
        ("0 sky\n1 sea\n2 wall\n3 tree\n4 road\n", "numbered"),
        ('["cat", "dog"]', "is JSON"),
        ('{\n "0": "cat"\n}\n', "'{' is JSON"),
        ("names:\n  0: cat\n", "'names:' is YAML"),
        ("nc: 2\nnames: ['cat', 'dog']\n", "'nc: 2' is YAML"),  # ultralytics' data.yaml
        ("animals: [cat, dog]\n", "'animals: [cat, dog]' is YAML"),
        ("0 cat\n1 dog\n", "'0 cat' is numbered"),
        ("id,name\n0,cat\n1,dog\n", "'0,cat' is numbered"),
        (
            "n01440764 tench, Tinca tinca\nn01443537 goldfish\n",
            "'n01440764 tench, Tinca tinca' is a number of WordNet's",
        ),
        ("('cat', 'dog')", "is a tuple of Python"),
        ("- cat\n- dog\n", "'- cat' is a list in YAML"),
        ("'cat'\n'dog'\n", "is in quotes"),
        ("cat;dog\n", "'cat;dog' is several names in a line"),
        ("cat\tkitten\ndog\tpuppy\n", "is a row of a table"),
        ("| cat |\n| dog |\n", "'| cat |' is a row of a table"),
        ("* cat\n* dog\n", "'* cat' is a list with bullets"),
        ("\u2022 cat\n", "is a list with bullets"),
        ("<html>\n<li>cat</li>\n", "'<html>' is HTML"),
        ("road 128 64 128\nsky 70 130 180\n", "'road 128 64 128' is a name with numbers behind it"),
        ("name,r,g,b\nroad,128,64,128\nsky,70,130,180\n", "'road,128,64,128' is a name with numbers behind it"),
        ("person: 262465\ncar: 43867\n", "'person: 262465' is a name with numbers behind it"),
    ],
)
def test_lists_of_another_form_are_refused(content: str, form: str, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text(content)
    with pytest.raises(ValueError, match=rf"names\.txt is no list of one name a line: .*{re.escape(form)}"):
        load_vocabulary(tmp_path / "names.txt")


def test_numbers_within_names_and_signs_that_nobody_sees(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("1 euro\n2 euro\n3d printer, printer\nt-shirt\n\u200bcat\u00a0\n", encoding="utf-8")
    assert load_vocabulary(path).names == ("1 euro", "2 euro", "3d printer, printer", "t-shirt", "cat")
    path.write_text("boeing 737\nboeing 747\nwindows 3.1, windows\n")
    assert load_vocabulary(path).names == ("boeing 737", "boeing 747", "windows 3.1, windows")
