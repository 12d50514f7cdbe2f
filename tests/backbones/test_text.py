"""Names to embeddings: means over sentences, synonyms, a cache that answers only the same question."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.support.tiny import tiny_openai_clip
from torch import Tensor

from clipself.backbones import DenseCLIP
from clipself.backbones.loading import build_clip
from clipself.backbones.text import embed_names, embed_sentences, make_vocabulary
from clipself.text.templates import fill_templates, load_templates
from clipself.text.vocabulary import Vocabulary


def mean_over(clip: DenseCLIP, sentences: list[str]) -> Tensor:
    """The loop that the functions stand for."""
    with torch.no_grad():
        each = torch.cat([clip.encode_text([sentence]) for sentence in sentences])
    return F.normalize(each.mean(0), dim=-1)


def test_rows_on_disk_know_the_activation_that_no_weight_shows() -> None:
    quick = tiny_openai_clip()
    exact = build_clip(quick.name, {**quick.model_cfg, "quick_gelu": False}, identity=quick.identity)
    exact.clip.load_state_dict(quick.clip.state_dict())
    assert exact.eval().weights_hash() == quick.weights_hash()
    before = embed_names(exact, ["cat"], templates="simple").rows_SD
    kept, fresh = (embed_names(quick, ["cat"], templates="simple", cache=cache).rows_SD for cache in (True, False))
    torch.testing.assert_close(kept, fresh)
    assert not torch.equal(kept, before)


def test_names_are_averaged_over_sentences() -> None:
    clip = tiny_openai_clip()
    rows = embed_names(clip, ["cat", "dog, puppy"], templates="detection").rows_SD
    for name, row in zip(("cat", "dog, puppy"), rows, strict=True):
        torch.testing.assert_close(row, mean_over(clip, fill_templates(name, load_templates("detection"))))


def test_an_embedded_vocabulary_is_a_vocabulary_whose_flags_stand_beside_its_rows() -> None:
    made = make_vocabulary(tiny_openai_clip(), ["hot_dog", "cat", "dog"], base=["Hot dog", "dog"], templates="simple")
    assert isinstance(made, Vocabulary)
    assert (made.base, made.novel, made.ids) == (("hot_dog", "dog"), ("cat",), (1, 2, 3))
    assert made.base_K.tolist() == [True, False, True, True]  # the background counts as seen
    turned = replace(made, is_novel=(True, False, False))
    assert turned.base_K.tolist() == [False, True, True, True]
    with pytest.raises(ValueError, match="3 names need 4 rows with the background's, got 3 embeddings"):
        replace(made, texts_KD=made.texts_KD[:-1])


@pytest.mark.parametrize(
    ("wording", "spoken"), [("short", ["sky", "hot dog", "frank"]), ("as-written", ["sky-other", "hot_dog", "frank"])]
)
def test_a_class_may_have_several_names(wording: str, spoken: list[str]) -> None:
    clip = tiny_openai_clip()
    text = embed_names(clip, ["sky-other", "hot_dog, frank"], templates="vild", wording=wording)
    assert (text.counts, text.starts) == ((1, 2), [0, 1])
    for name, row in zip(spoken, text.rows_SD, strict=True):
        sentences = [sentence.replace("{}", name) for sentence in load_templates("vild")]
        torch.testing.assert_close(row, mean_over(clip, sentences))


def test_each_sentence_by_itself_lets_gradients_through() -> None:
    clip = tiny_openai_clip().requires_grad_(True)
    each_SPD, counts = embed_sentences(clip, ["cat, kitten", "dog"], templates=["a {}", "the {}."])
    assert (each_SPD.shape[:2], counts) == ((3, 2), (2, 1))
    torch.testing.assert_close(each_SPD[1, 1].detach(), mean_over(clip, ["the kitten."]))
    torch.autograd.backward(each_SPD.sum())
    assert any(p.grad is not None and bool(p.grad.any()) for p in clip.parameters())


def test_cache_is_used_only_for_the_same_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path))
    clip = tiny_openai_clip(0)
    first = embed_names(clip, ["cat"], templates="simple").rows_SD
    (kept,) = (tmp_path / "text").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(clip, "encode_text", lambda texts: pytest.fail("asked again"))
        assert torch.equal(embed_names(clip, ["cat"], templates="simple").rows_SD, first)
    assert not torch.equal(embed_names(tiny_openai_clip(1), ["cat"], templates="simple").rows_SD, first)
    embed_names(clip, ["cow"], templates="simple")
    embed_names(clip, ["cat"], templates="vild")
    assert len(list((tmp_path / "text").iterdir())) == 4
    embed_names(clip, ["kite"], templates="simple", cache=False)
    assert len(list((tmp_path / "text").iterdir())) == 4
    kept.write_bytes(b"damaged")
    assert torch.equal(embed_names(clip, ["cat"], templates="simple").rows_SD, first)


def test_a_cache_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "file" / "cache"))
    with caplog.at_level(logging.WARNING, "clipself"):
        rows = embed_names(tiny_openai_clip(), ["cat"], templates="simple").rows_SD
    assert rows.shape[0] == 1
    assert "set CLIPSELF_CACHE to a folder that can" in caplog.text


def test_classes_that_sound_alike_are_told(caplog: pytest.LogCaptureFixture) -> None:
    clip = tiny_openai_clip()
    embed_names(clip, ["cat", "hot_dog", "dog", "dogs"], templates="simple", cache=False)
    assert not caplog.records
    rows = embed_names(clip, ["hot_dog", "cat", "Hot  dog"], templates="simple", cache=False).rows_SD
    assert "the classes 'hot_dog' and 'Hot  dog' sound alike" in caplog.text
    torch.testing.assert_close(rows[0], rows[2])  # CLIP's tokens have no capitals


def test_questions_that_make_no_sense() -> None:
    clip = tiny_openai_clip()
    with pytest.raises(ValueError, match="there are no names to look for"):
        embed_names(clip, [])
    for wrong in (5, None):
        with pytest.raises(ValueError, match=f"names hold {wrong} of type .*, expected strings"):
            embed_names(clip, ["cat", wrong])  # type: ignore[list-item]
    words: Any = np.array(["cat", "dog"])
    torch.testing.assert_close(embed_names(clip, words).rows_SD, embed_names(clip, ["cat", "dog"]).rows_SD)
    with pytest.raises(ValueError, match="wrap it in a list"):
        embed_names(clip, "cat")
    with pytest.raises(ValueError, match=r"unknown wording 'shorter'.*did you mean 'short'"):
        embed_names(clip, ["cat"], wording="shorter")


def test_texts_that_are_longer_than_the_model_reads_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    clip = tiny_openai_clip()
    clip.tokenizer.told_cut = False  # those of small models are one
    longest = clip.tokenizer.context_length
    fits, long = "cat " * (longest - 2), "cat " * (longest - 1)  # a token each, and the start and the end
    clip.encode_text([fits, "a dog"])
    assert not caplog.text
    cut = clip.encode_text(["a dog", long])
    assert f"1 of 2 texts have more than the {longest} tokens that the model reads" in caplog.text
    torch.testing.assert_close(cut[1], clip.encode_text([fits])[0])
    caplog.clear()
    clip.encode_text([long])
    assert not caplog.text
