"""One small twin of every family of towers that open_clip knows: its own configuration and classes, scaled down."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import open_clip
import torch
from timm.models import model_entrypoint, register_model
from timm.models._registry import is_model
from timm.models.vitamin import VitCfg
from torch import nn

from clipself.backbones.dense_clip import DenseCLIP, TowerIdentity
from clipself.backbones.loading import build_clip

WORDS: Final = ("a", "photo", "of", "the", "dog", "cat", "kite", "red", "ball", ".")
VIT: Final[Mapping[str, Any]] = {"img_size": 64, "embed_dim": 64, "depth": 4, "num_heads": 2}
PLAIN: Final[Mapping[str, Any]] = {"image_size": 64, "patch_size": 16, "width": 64, "layers": 4, "head_width": 32}


@dataclass(frozen=True, kw_only=True)
class Twin:
    """How a family is made small.

    Attributes:
        vision: Replaces entries of the vision configuration.
        timm: Arguments of timm's own constructor.
        text: transformers' configuration of a text tower that comes from there.
        grid: Rows and columns of the native grid.
        pools_by: What makes its image embedding.
    """

    vision: Mapping[str, Any] = field(default_factory=dict)
    timm: Mapping[str, Any] = field(default_factory=dict)
    text: Callable[[], Any] | None = None
    grid: tuple[int, int] = (4, 4)
    pools_by: str = "class token"


def _nllb() -> Any:
    from transformers import M2M100Config

    return M2M100Config(
        vocab_size=40, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=64,
    )  # fmt: skip


def _mt5() -> Any:
    from transformers import MT5Config

    return MT5Config(vocab_size=40, d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2)


def _roberta(kind: str) -> Callable[[], Any]:
    def make() -> Any:
        import transformers

        return getattr(transformers, kind)(
            vocab_size=40, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=100,
        )  # fmt: skip

    return make


def _vitamin(**more: Any) -> Twin:
    stem = VitCfg(embed_dim=(16, 16, 64), depths=(1, 1, 1), stem_width=16)
    return Twin(timm={**VIT, "embed_cfg": stem, **more}, pools_by="mean")


FAST: Final[Mapping[str, Any]] = {"layers": (1, 1, 1, 1), "embed_dims": (16, 16, 32, 64)}
FAST5: Final[Mapping[str, Any]] = {"layers": (1,) * 5, "embed_dims": (16, 16, 16, 32, 64)}
NEXT: Final[Mapping[str, Any]] = {"depths": (1, 1, 1, 1), "dims": (16, 16, 32, 64)}

TWINS: Final[Mapping[str, Twin]] = {
    "ViT-B-16": Twin(vision=PLAIN),
    "ViT-L-14-CLIPA": Twin(vision=PLAIN, pools_by="mean"),
    "ViT-H-14-worldwide": Twin(vision=PLAIN),
    "RN50": Twin(vision={"image_size": 64, "layers": [1, 1, 1, 1], "width": 16}, grid=(2, 2), pools_by="attention"),
    "EVA01-g-14": Twin(timm={**VIT, "patch_size": 16, "mlp_ratio": 2.0}),
    "EVA02-B-16": Twin(timm=VIT),
    "EVA02-L-14-336": Twin(timm={**VIT, "patch_size": 16}),
    "EVA02-E-14": Twin(timm={**VIT, "patch_size": 16, "mlp_ratio": 2.0}),
    "PE-Core-B-16": Twin(timm={**VIT, "attn_pool_num_heads": 4}, pools_by="attention"),
    "PE-Core-bigG-14-448": Twin(
        timm={**VIT, "patch_size": 16, "mlp_ratio": 2.0, "attn_pool_num_heads": 4}, pools_by="attention"
    ),
    "ViT-B-16-SigLIP": Twin(timm=VIT, pools_by="attention"),
    "ViT-SO400M-14-SigLIP2": Twin(timm={**VIT, "patch_size": 16, "mlp_ratio": 2.5}, pools_by="attention"),
    "ViT-gopt-16-SigLIP2-256": Twin(timm={**VIT, "mlp_ratio": 2.0}, pools_by="attention"),
    "vit_medium_patch16_gap_256": Twin(timm=VIT, pools_by="mean"),
    "ViTamin-B": _vitamin(),
    "ViTamin-XL-256": _vitamin(),
    "MobileCLIP2-L-14": Twin(timm={**VIT, "patch_size": 16}),
    "MobileCLIP2-B": Twin(timm={"img_size": 64, "depth": 1}),
    "MobileCLIP2-S0": Twin(timm=FAST, vision={"image_size": 64}, grid=(2, 2), pools_by="mean"),
    "MobileCLIP2-S3": Twin(timm=FAST5, vision={"image_size": 128}, grid=(2, 2), pools_by="mean"),
    "convnext_base": Twin(timm=NEXT, vision={"image_size": 64}, grid=(2, 2), pools_by="mean"),
    "convnext_large_d": Twin(timm=NEXT, vision={"image_size": 64}, grid=(2, 2), pools_by="mean"),
    "convnext_xxlarge": Twin(timm=NEXT, vision={"image_size": 64}, grid=(2, 2), pools_by="mean"),
    "coca_base": Twin(vision=PLAIN),
    "coca_ViT-B-32": Twin(vision=PLAIN, pools_by="attention"),
    "coca_roberta-ViT-B-32": Twin(vision=PLAIN, text=_roberta("RobertaConfig")),
    "roberta-ViT-B-32": Twin(vision=PLAIN, text=_roberta("RobertaConfig")),
    "xlm-roberta-base-ViT-B-32": Twin(vision=PLAIN, text=_roberta("XLMRobertaConfig")),
    "mt5-base-ViT-B-32": Twin(vision=PLAIN, text=_mt5),
    "nllb-clip-base": Twin(vision=PLAIN, text=_nllb),
    "nllb-clip-base-siglip": Twin(timm=VIT, text=_nllb, pools_by="attention"),
}
"""open_clip's name of one model of each family -> its small twin."""

POOLED: Final = [name for name, twin in TWINS.items() if twin.pools_by != "class token"]
STAGED: Final = [name for name, twin in TWINS.items() if twin.grid == (2, 2)]
"""Those that pool a map, and those that are convolutional."""


def shrunk_timm(name: str, **small: Any) -> str:
    """Registers timm's own model with smaller arguments and returns the name it then has."""
    twin = f"clipself_test_{name}"
    if not is_model(twin):

        def make(pretrained: bool = False, **options: Any) -> nn.Module:
            options.pop("cache_dir", None)
            made: nn.Module = model_entrypoint(name)(pretrained=False, **{**options, **small})
            return made

        make.__module__, make.__name__ = "timm.models.vision_transformer", twin
        register_model(make)
    return twin


def write_tokenizer(folder: Path) -> Path:
    """A tokenizer of transformers' with a word a token, in the files that the hub has."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ("<pad>", "<s>", "</s>", "<unk>")
    rows = {word: place for place, word in enumerate((*special, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(rows, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", rows["<s>"]), ("</s>", rows["</s>"])]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        sep_token="</s>",
    )  # fmt: skip
    fast.save_pretrained(str(folder))
    return folder


def twin_config(name: str, folder: Path) -> dict[str, Any]:
    """open_clip's configuration of a model, scaled down; what would come from the hub lies in a folder."""
    twin, config = TWINS[name], dict(open_clip.get_model_config(name))
    vision, text = {**config["vision_cfg"], **twin.vision}, dict(config["text_cfg"])
    if "timm_model_name" in vision:
        vision["timm_model_name"] = shrunk_timm(vision["timm_model_name"], **twin.timm)
        vision["image_size"] = twin.timm.get("img_size", vision["image_size"])
        vision["timm_model_pretrained"] = False
    small = {"width": 32, "heads": 2, "layers": 1, "context_length": 16}
    byte_pairs = not text.get("hf_tokenizer_name")
    if twin.text is None:
        text.update(small, vocab_size=49408 if byte_pairs else 40)
    if not byte_pairs:
        text["hf_tokenizer_name"] = str(write_tokenizer(folder))
    if twin.text is not None:
        twin.text().save_pretrained(str(folder))
        text.update(hf_model_name=str(folder), context_length=16)
    if "multimodal_cfg" in config:
        config["multimodal_cfg"] = {**config["multimodal_cfg"], **small, "vocab_size": text.get("vocab_size", 40)}
    proj_none = vision.get("timm_proj") == "none"
    return {**config, "embed_dim": 64 if proj_none else 32, "vision_cfg": vision, "text_cfg": text}


def twin_clip(name: str, folder: Path, *, seed: int = 0) -> DenseCLIP:
    """The small twin with weights that a test can tell apart."""
    config = twin_config(name, folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        release = f"tiny-{name}@{seed}"
        identity = TowerIdentity(image=release, text=release)
        clip = build_clip(f"tiny-{name}", config, identity=identity, random=True)
        for parameter in clip.clip.parameters():
            if parameter.ndim >= 2:
                nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
            elif parameter.ndim == 1:
                parameter.data += 0.2 * torch.randn_like(parameter)
    return clip.eval()
