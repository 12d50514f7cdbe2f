"""A small TIPSv2 in a folder as the hub has it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.towers import write_tokenizer


def write_tips(folder: Path, *, swiglu: bool = False) -> Any:
    """transformers' own model with weights that a test can tell apart, written by transformers itself."""
    tips = pytest.importorskip("transformers.models.tipsv2", reason="this transformers has no TIPSv2")
    vision = tips.Tipsv2VisionConfig(
        hidden_size=64, num_hidden_layers=4, num_attention_heads=4, image_size=64, patch_size=16,
        use_swiglu_ffn=swiglu, num_register_tokens=1,
    )  # fmt: skip
    text = tips.Tipsv2TextConfig(
        vocab_size=40, hidden_size=64, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = tips.Tipsv2Model(tips.Tipsv2Config(vision_config=vision.to_dict(), text_config=text.to_dict()))
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        model.temperature.data.fill_(0.02)
    model.eval().save_pretrained(str(folder))
    write_tokenizer(folder)
    return model
