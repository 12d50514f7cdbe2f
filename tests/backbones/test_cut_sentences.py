"""Sentences that are cut to some tokens."""

import torch
from tests.support.tiny import tiny_openai_clip

from clipself.backbones.text import embed_names
from clipself.backbones.tokens import cut_sentences


def test_a_long_row_ends_with_the_end_and_a_short_one_stays() -> None:
    tokens_KL = torch.tensor([[9, 1, 2, 3, 10, 0], [9, 1, 10, 0, 0, 0], [9, 1, 2, 10, 0, 0]])
    assert cut_sentences(tokens_KL, 4).tolist() == [[9, 1, 2, 10, 0, 0], [9, 1, 10, 0, 0, 0], [9, 1, 2, 10, 0, 0]]
    assert torch.equal(cut_sentences(tokens_KL, 9), tokens_KL)


def test_names_beyond_the_cut_are_not_heard() -> None:
    clip = tiny_openai_clip()
    assert clip.identity.text is not None
    cut = [clip.encode_text([text], longest=4) for text in ("a dog", "a dog house", "a dog in a house")]
    torch.testing.assert_close(cut[1], cut[2])
    whole = clip.encode_text(["a dog house"])
    assert not torch.allclose(cut[1], whole)
    torch.testing.assert_close(cut[0], clip.encode_text(["a dog"]))


def test_rows_on_disk_know_their_cut() -> None:
    clip = tiny_openai_clip()
    rows = [
        embed_names(clip, ["dog_house"], templates="simple", wording="spaced", longest=cut).rows_SD
        for cut in (None, 6, None, 6)
    ]
    assert torch.equal(rows[0], rows[2])
    assert torch.equal(rows[1], rows[3])
    assert not torch.allclose(rows[0], rows[1])
