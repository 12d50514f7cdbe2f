"""Relatives of EVA-02 in timm's class: read as the stock block computes them, or refused with the reason."""

from typing import Any

import pytest
import torch
from tests.support.tiny import TEXT_CFG
from timm.models import register_model
from timm.models._registry import is_model
from timm.models.eva import Eva

from clipself.backbones import DenseCLIP, TowerIdentity, load_clip
from clipself.backbones.loading import build_clip
from clipself.backbones.readouts import READOUTS
from clipself.backbones.transformer import require_blocks

EVA01: dict[str, Any] = {"mlp_ratio": 2.0}
POST_NORM: dict[str, Any] = {"mlp_ratio": 2.0, "use_post_norm": True}
NO_BIAS: dict[str, Any] = {"mlp_ratio": 2.0, "qkv_bias": False, "init_values": 0.5}


def relative(name: str, *, pool: str = "token", **arguments: Any) -> DenseCLIP:
    """A tower of timm's class at width 64 with three blocks, patch 16, native 64 px."""
    name = f"clipself_test_eva_{name}"
    if not is_model(name):

        def make(pretrained: bool = False, **options: Any) -> Eva:
            for unused in ("cache_dir", "pretrained_cfg", "pretrained_cfg_overlay"):
                options.pop(unused, None)
            small = {"img_size": 64, "patch_size": 16, "embed_dim": 64, "depth": 3, "num_heads": 2}
            return Eva(**{"global_pool": pool, **options, **small, **arguments})

        make.__module__, make.__name__ = "timm.models.eva", name
        register_model(make)
    vision = {"image_size": 64, "timm_model_name": name, "timm_model_pretrained": False, "timm_pool": pool,
              "timm_proj": None}  # fmt: skip
    config = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": TEXT_CFG, "custom_text": True}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = build_clip(name, config, identity=TowerIdentity(image=name, text=name), random=True)
        for parameter in clip.clip.visual.parameters():  # type: ignore[union-attr]
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if parameter.ndim >= 2 else 0.5)
    return clip.eval()


@pytest.mark.parametrize(
    "arguments",
    [pytest.param(EVA01, id="fused"), pytest.param(POST_NORM, id="post-norm"), pytest.param(NO_BIAS, id="no-bias")],
)
@torch.no_grad()
def test_our_parts_of_a_block_make_up_the_stock_block(
    arguments: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    clip = relative(request.node.callspec.id.replace("-", "_"), **arguments)
    trunk, images = require_blocks(clip, "this test"), torch.randn(2, 3, 64, 64)
    stock = clip.clip.encode_image(images)  # type: ignore[operator]
    torch.testing.assert_close(clip.encode_image(images, normalize=False), stock, atol=1e-5, rtol=1e-4)
    held = trunk.embed(images)
    for block in trunk.blocks:
        tokens = held.tokens
        query, key, value = (trunk.project(block, trunk.norm_attention(block, tokens), part) for part in "qkv")
        shares = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
        mixed = (shares @ value).transpose(1, 2).flatten(2)
        tokens = tokens + trunk.merge_heads(block, mixed)
        tokens = tokens + trunk.feed_forward(block, tokens)
        torch.testing.assert_close(tokens, block(held.tokens), atol=1e-5, rtol=1e-4)
    for readout in READOUTS:
        assert clip.dense_map(torch.zeros(1, 3, 48, 96), readout=readout).isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param({"num_reg_tokens": 2}, "register tokens", id="registers"),
        pytest.param({"qk_norm": True}, "normalises queries and keys", id="heads"),
        pytest.param({"use_rot_pos_emb": True, "rope_rotate_half": True}, "rotates halves", id="halves"),
        pytest.param({"use_rot_pos_emb": True, "rope_type": "dinov3"}, "rotates its positions in another", id="rope"),
    ],
)
def test_relatives_that_cannot_be_read_are_refused(
    arguments: dict[str, Any], said: str, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(ValueError, match=f"no dense readout for this relative of EVA.*{said}"):
        relative(request.node.callspec.id, **arguments)


@pytest.mark.parametrize("name", ["swin_base_patch4_window7_224", "vit_relpos_medium_patch16_cls_224"])
def test_other_families_are_refused_with_their_name(name: str) -> None:
    with pytest.raises(
        ValueError, match=r"(SwinTransformer|VisionTransformerRelPos) has no dense readout; the families"
    ):
        load_clip(name, "random")
