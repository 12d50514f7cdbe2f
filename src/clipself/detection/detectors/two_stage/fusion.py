"""Two opinions on a region, the detector's and the frozen CLIP's, as one score a class.

The last column is the background everywhere.
"""

from collections.abc import Callable, Mapping
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.choices import pick


def cosine_logits(regions_RD: Tensor, texts_KD: Tensor, temperature: float | Tensor) -> Tensor:
    """Temperature times the cosine of every region with every text, in float32 at least.

    Args:
        regions_RD: Region embeddings of any length (R, D).
        texts_KD: Text embeddings of any length (K, D).
        temperature: Factor of the cosine; 50 to 120 in the published detectors, too much for half precision.

    Returns:
        Logits (R, K).
    """
    kind = torch.promote_types(regions_RD.dtype, torch.float32)
    # Columns are normalised as they lie in memory, as the release does: the same to the last bit.
    texts_DK = F.normalize(texts_KD.to(kind).mT.contiguous(), dim=0)
    scaled_RD = F.normalize(regions_RD.to(kind), dim=-1) * temperature
    if scaled_RD.device.type != "cpu":
        return scaled_RD @ texts_DK
    # Summed in float64, the last bits are the same on every processor: they are worth 4e-6 at a factor of 50.
    return (scaled_RD.double() @ texts_DK.double()).to(scaled_RD.dtype)


def fuse_fvit(detector_RK: Tensor, clip_RK: Tensor, *, base_K: Tensor, alpha: float, beta: float) -> Tensor:
    """F-ViT (CLIPSelf, detection): p^(1-w) q^w with w = alpha for base classes and background, beta for novel ones.

    Not renormalised, so a row's sum is below 1.

    Args:
        detector_RK: Probabilities of the detector (R, K).
        clip_RK: Probabilities of the frozen CLIP (R, K).
        base_K: Columns that training saw, the background among them.
        alpha: CLIP's exponent for those.
        beta: CLIP's exponent for the others.
    """
    weight_K = torch.where(base_K, alpha, beta).to(detector_RK)
    return detector_RK ** (1 - weight_K) * clip_RK**weight_K


def fuse_fvlm(detector_RK: Tensor, clip_RK: Tensor, *, base_K: Tensor, alpha: float, beta: float) -> Tensor:
    """F-VLM (arXiv:2209.15639): as F-ViT, but the background is the detector's own and rows are made to sum to 1."""
    fused = fuse_fvit(detector_RK, clip_RK, base_K=base_K, alpha=alpha, beta=beta)
    fused = torch.cat([fused[:, :-1], detector_RK[:, -1:]], dim=1)
    return fused / fused.sum(1, keepdim=True).clamp(min=torch.finfo(fused.dtype).tiny)


def fuse_single(detector_RK: Tensor, clip_RK: Tensor, *, base_K: Tensor, alpha: float, beta: float) -> Tensor:
    """Transfer to another data set (CLIPSelf, Table 6): one exponent for every column."""
    del base_K, beta
    return detector_RK ** (1 - alpha) * clip_RK**alpha


def keep_detector(detector_RK: Tensor, clip_RK: Tensor, *, base_K: Tensor, alpha: float, beta: float) -> Tensor:
    """The detector alone: ViLD and BARON, which have learned what CLIP says."""
    del clip_RK, base_K, alpha, beta
    return detector_RK


Fusion = Callable[..., Tensor]

FUSIONS: Final[Mapping[str, Fusion]] = {
    "fvit": fuse_fvit,
    "fvlm": fuse_fvlm,
    "single": fuse_single,
    "none": keep_detector,
}
"""Rule by name; all take probabilities of the detector and of CLIP, and `base_K`, `alpha`, `beta`."""


def fuse_scores(
    detector_logits_RK: Tensor, clip_logits_RK: Tensor, *, rule: str, base_K: Tensor, alpha: float, beta: float
) -> Tensor:
    """Softmax of both over all classes and the background, then the rule.

    Returns:
        Scores (R, K); they are probabilities already, no softmax may follow.

    Raises:
        ValueError: The rule is unknown.
    """
    fuse = pick(FUSIONS, rule, what="fusion rule")
    return fuse(
        detector_logits_RK.softmax(-1), clip_logits_RK.softmax(-1), base_K=base_K.to(detector_logits_RK.device),
        alpha=alpha, beta=beta,
    )  # fmt: skip
