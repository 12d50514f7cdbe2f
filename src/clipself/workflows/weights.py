"""Weights from one form to another: blends with the original, export folders."""

from collections.abc import Sequence
from pathlib import Path

from clipself.backbones.export import save_clip, sweep_blends
from clipself.backbones.loading import load_clip
from clipself.engine.fields import fitted


@fitted
def blend(
    student: str | Path,
    *,
    out: str | Path,
    original: str = "clipself-mini",
    pretrained: str | None = None,
    alphas: Sequence[float] = (0.7,),
) -> list[Path]:
    """Writes alpha * student + (1 - alpha) * original, for one alpha or a sweep.

    Source: CLIPSelf, released training code; 0.7 for B/16, 0.95 for L/14.

    Args:
        student: Export folder of the refined model.
        out: Folder to write; a sweep writes `alpha-0.70` and so on below it.
        original: open_clip name, "clipself-mini" or export folder of the model it started from.
        pretrained: Tag or file of a named original.
        alphas: Shares of the student in [0, 1].

    Returns:
        The folders written, in the order of the alphas.

    Raises:
        ValueError: An alpha is outside [0, 1] or there twice, or the two are not one architecture with one text tower.
        FileNotFoundError: A model is missing.
    """
    if not alphas:
        raise ValueError("there is no alpha to blend with; give at least one share of the student")
    names = [f"alpha-{alpha:.2f}" for alpha in alphas]
    if len(set(names)) < len(names):
        raise ValueError(f"alphas {list(alphas)} are not apart in two digits, by which their folders are called")
    refined, source = load_clip(student), load_clip(original, pretrained)
    written = []
    for name, (alpha, blended) in zip(names, sweep_blends(refined, source, alphas), strict=True):
        folder = Path(out) if len(alphas) == 1 else Path(out) / name
        card = {"alpha": alpha, "student": str(student), "original": str(original)}
        written.append(save_clip(blended, folder, card=card))
    return written


@fitted
def convert(
    model: str,
    *,
    out: str | Path,
    pretrained: str | None = None,
    text_from: str | None = None,
    quick_gelu: bool | None = None,
    ignore: Sequence[str] = (),
) -> Path:
    """Writes any checkpoint that can be loaded as a folder that stock open_clip reads.

    Args:
        model: open_clip or EVA-CLIP name, "clipself-mini" or an export folder.
        out: Folder to write.
        pretrained: Tag or checkpoint file: OpenAI, open_clip, EVA-CLIP and CLIPSelf releases, safetensors.
        text_from: Release whose text tower is taken.
        quick_gelu: Whether the activation is QuickGELU; see `load_clip`.
        ignore: Names or prefixes of tensors in the file that may be left out.

    Returns:
        The folder.

    Raises:
        ValueError: The file does not fit the model.
        FileNotFoundError: The file is missing.
    """
    return save_clip(load_clip(model, pretrained, text_from=text_from, ignore=ignore, quick_gelu=quick_gelu), out)
