"""A latent diffusion model of diffusers at toy size, written as a checkpoint: the real classes, a second each."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch


def tiny_diffusion() -> tuple[Any, Any]:
    """Autoencoder and U-Net with the levels and blocks of Stable Diffusion 1, 32 channels each, a text of width 16."""
    diffusers = pytest.importorskip("diffusers", reason="the extra 'diffusion' is not installed")
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(32,) * 4, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, layers_per_block=2,
    )  # fmt: skip
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(32,) * 4,
        down_block_types=(*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3), cross_attention_dim=16,
        attention_head_dim=2, layers_per_block=2,
    )  # fmt: skip
    return vae, unet


def write_tiny_diffusion(folder: Path) -> Path:
    """`tiny_diffusion` with a text tower and its tokenizer, as diffusers lays checkpoints out."""
    from transformers import CLIPTextConfig, CLIPTextModel

    vae, unet = tiny_diffusion()
    vae.save_pretrained(folder / "vae")
    unet.save_pretrained(folder / "unet")
    tower = CLIPTextConfig(
        vocab_size=4, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=5, bos_token_id=2, eos_token_id=3, pad_token_id=3,
    )  # fmt: skip
    CLIPTextModel(tower).save_pretrained(folder / "text_encoder")
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    vocab = {"a</w>": 0, "a": 1, "<|startoftext|>": 2, "<|endoftext|>": 3}
    (tokenizer / "vocab.json").write_text(json.dumps(vocab))
    (tokenizer / "merges.txt").write_text("#version: 0.2\n")
    (tokenizer / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    return folder
