from pathlib import Path

import pytest
import torch
from tests.support.panoptic import NAMES, draw_world
from tests.support.tiny import tiny_openai_clip

from clipself.data.images import read_image
from clipself.panoptic.generators.table import open_generator
from clipself.panoptic.generators.transformers import TransformersMasks
from clipself.panoptic.judge import ClipJudge
from clipself.panoptic.segmenter import PanopticSegmenter

transformers = pytest.importorskip("transformers")


def tiny_swin() -> object:
    from transformers import SwinConfig

    return SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip


def write_mask2former(folder: Path) -> Path:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

    config = Mask2FormerConfig(
        backbone_config=tiny_swin(), feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=16,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=16, num_queries=6,
        id2label=dict(enumerate(NAMES)),
    )  # fmt: skip
    torch.manual_seed(0)
    Mask2FormerForUniversalSegmentation(config).save_pretrained(folder)
    return folder


def write_maskformer(folder: Path) -> Path:
    from transformers import DetrConfig, MaskFormerConfig, MaskFormerForInstanceSegmentation

    decoder = DetrConfig(
        num_queries=6, d_model=32, decoder_layers=1, encoder_layers=1, decoder_attention_heads=2,
        encoder_attention_heads=2, decoder_ffn_dim=16, encoder_ffn_dim=16,
    )  # fmt: skip
    config = MaskFormerConfig(
        backbone_config=tiny_swin(), decoder_config=decoder, fpn_feature_size=32, mask_feature_size=32,
        id2label=dict(enumerate(NAMES)),
    )  # fmt: skip
    torch.manual_seed(0)
    MaskFormerForInstanceSegmentation(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("write", [write_mask2former, write_maskformer])
def test_a_checkpoint_of_transformers_runs_the_whole_path(write: object, tmp_path: Path) -> None:
    folder = write(tmp_path / "model")  # type: ignore[operator]
    generator = open_generator(f"hf:{folder}")
    assert isinstance(generator, TransformersMasks)
    generator.shortest = 64
    assert generator.trained_names == NAMES
    path = tmp_path / "world.png"
    draw_world(0)[0].save(path)
    picture, names = read_image(path), ["Green box", "red box, crimson box"]
    masks = generator(picture, file=str(path), names=names)
    assert masks.masks_QYX.shape[0] == 6
    with torch.no_grad():
        out = generator.model(pixel_values=generator._pixels(picture)[None])
    assert masks.logits_QK is not None
    torch.testing.assert_close(masks.logits_QK, out.class_queries_logits[0][:, [1, 0]])
    torch.testing.assert_close(masks.void_Q, out.class_queries_logits[0].softmax(-1)[:, -1])
    judge = ClipJudge(tiny_openai_clip(), names, image_size=64)
    for scores in ("clip", "generator", "both", "both-odise"):
        found = PanopticSegmenter(generator, judge, names, [True, True], scores=scores)(picture, file=str(path))
        assert found.panoptic.ids_HW.shape == (48, 64)
        assert torch.isfinite(found.log_scores_QK1).all()
    assert generator(picture, file="", names=["red box", "dog"]).logits_QK is None


def test_what_is_not_a_mask_model_is_refused(tmp_path: Path) -> None:
    from transformers import BertConfig

    with pytest.raises(ValueError, match="transformers finds no model at"):
        open_generator(f"hf:{tmp_path}")
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"is a bert; masks come from one of \['mask2former', 'maskformer'\]"):
        open_generator(f"hf:{tmp_path}")
