"""ODISE's heads against plain loops; the published numbers are in tests/conformance."""

import torch
import torch.nn.functional as F

from clipself.layers.masked_decoder import QueryState
from clipself.panoptic.generators.odise.heads import OdiseHeads, PooledMaskEmbed, Supervision, stand_in_logits
from clipself.structures import TextRows

TEXT = TextRows(rows_SD=torch.randn(3, 6, generator=torch.Generator().manual_seed(1)), counts=(2, 1))


def make(supervision: Supervision) -> OdiseHeads:
    torch.manual_seed(0)
    return OdiseHeads(
        in_channels=(8,) * 4, text_dim=6, supervision=supervision, channels=32, pixel_layers=1, pixel_hidden=16,
        layers=2, hidden=16, queries=5, heads=2,
    )  # fmt: skip


def pyramid() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(2, 8, 16 // step, 24 // step, generator=generator) for step in (1, 2, 4, 8)]


def queries_of(heads: OdiseHeads) -> torch.Tensor:
    return heads.predictor.decode(heads.pixel_decoder(pyramid()))[-1].queries_BQC


def test_a_mask_is_embedded_by_the_mean_under_it_and_its_query() -> None:
    torch.manual_seed(3)
    embed = PooledMaskEmbed(channels=4, mask_channels=6, embed_dim=5)
    features, masks, queries = torch.randn(1, 6, 3, 4), torch.randn(1, 2, 3, 4), torch.randn(1, 2, 4)
    masks[0, 1] = -1.0  # nothing under it
    state = QueryState(queries_BQC=queries, masks_BQYX=masks)
    pooled = embed.pool(state, features)
    for query in range(2):
        under = [features[0, :, y, x] for y in range(3) for x in range(4) if torch.sigmoid(masks[0, query, y, x]) > 0.5]
        mean = torch.stack(under).sum(0) / (len(under) + 1e-8) if under else torch.zeros(6)
        torch.testing.assert_close(pooled[0, query], embed.pool_proj(mean) + queries[0, query])
    torch.testing.assert_close(embed(state, features), embed.mask_embed(pooled))
    torch.testing.assert_close(embed.scale, torch.tensor(1 / 0.07))
    embed.logit_scale.data.fill_(9.0)
    assert embed.scale == 100


def test_the_label_model_scores_names_and_none_by_projected_text() -> None:
    heads = make("label")
    (found,) = heads.look(pyramid())
    scored = heads.score(found, TEXT)
    embeddings = F.normalize(found.embeddings_BQD, dim=-1)
    rows = [*TEXT.rows_SD, heads.category_head.null_embed[0]]
    cosines = [embeddings @ F.normalize(heads.category_head.text_proj(row), dim=0) for row in rows]
    expected = torch.stack([torch.maximum(cosines[0], cosines[1]), cosines[2], cosines[3]], dim=-1) / 0.07
    torch.testing.assert_close(scored.classes_BQC, expected)
    torch.testing.assert_close(scored.names_BQK, expected[..., :-1])
    torch.testing.assert_close(scored.void_BQ, expected.softmax(-1)[..., -1])
    assert stand_in_logits(found, classes=2)[1, 4].tolist() == [1, 1, 0]


def test_the_caption_model_tells_objects_apart_and_names_without_none() -> None:
    heads = make("caption")
    (found,) = heads.look(pyramid())
    scored, embeddings = heads.score(found, TEXT), F.normalize(found.embeddings_BQD, dim=-1)
    cosines = [embeddings @ F.normalize(heads.word_head.text_proj(row), dim=0) for row in TEXT.rows_SD]
    expected = torch.stack([torch.maximum(cosines[0], cosines[1]), cosines[2]], dim=-1) / 0.07
    torch.testing.assert_close(scored.names_BQK, expected)
    assert scored.classes_BQC is found.objects_BQ2
    assert heads.predictor.class_embed is not None
    torch.testing.assert_close(found.objects_BQ2, heads.predictor.class_embed(queries_of(heads)))
    assert found.objects_BQ2 is stand_in_logits(found, classes=7)
    assert not any("null_embed" in name for name, _ in heads.named_parameters())


def test_every_layer_is_supervised_and_everything_learns() -> None:
    for supervision in ("label", "caption"):
        heads = make(supervision)
        found = heads.look(pyramid(), all_layers=True)
        assert len(found) == 3
        scored = [heads.score(one, TEXT) for one in found]
        torch.stack(
            [one.names_BQK.sum() + one.masks_BQYX.mean() + one.classes_BQC.sum() for one in scored]
        ).sum().backward()  # type: ignore[no-untyped-call]
        assert [name for name, parameter in heads.named_parameters() if parameter.grad is None] == []
