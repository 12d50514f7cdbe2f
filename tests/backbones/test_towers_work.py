"""Every family of towers from export to export: distilled, evaluated on regions, written and read again."""

from pathlib import Path

import pytest
import torch
from tests.support.pictures import draw_pictures, write_coco
from tests.support.tips import write_tips
from tests.support.towers import TWINS, twin_clip

from clipself.backbones import DenseCLIP, load_clip, save_clip
from clipself.backbones.trainable import train_last_blocks
from clipself.distillation.train import distill
from clipself.regions.evaluate import evaluate_regions

ONE_OF_EACH = (
    "EVA01-g-14", "PE-Core-B-16", "PE-Core-bigG-14-448", "ViT-B-16-SigLIP", "coca_ViT-B-32", "ViT-L-14-CLIPA",
    "ViTamin-XL-256", "MobileCLIP2-B", "MobileCLIP2-S0", "convnext_large_d", "nllb-clip-base",
)  # fmt: skip
"""A family each; the slow tier has every twin, and ten steps."""


def learn(clip: DenseCLIP, *, steps: int) -> list[float]:
    """CLIPSelf's loss of the quarters of two pictures, learnt by heart."""
    student, side = clip.copy(), 2 * clip.patch_size
    learning = train_last_blocks(student.trunk, len(student.trunk.parts))
    images = torch.randn(2, 3, 2 * side, 2 * side, generator=torch.Generator().manual_seed(0))
    corners = [(x * side, y * side, (x + 1) * side, (y + 1) * side) for y in range(2) for x in range(2)]
    crops = torch.stack([image[:, top:bottom, left:right] for image in images for left, top, right, bottom in corners])
    boxes = [torch.tensor(corners, dtype=torch.float32)] * 2
    teacher, losses = clip.encode_image(crops), []
    for _ in range(steps):
        loss = (1 - (student.embed_boxes(images, boxes) * teacher).sum(-1)).sum()
        losses.append(float(loss.detach()))
        gradients = torch.autograd.grad(loss, learning)
        length = torch.stack([gradient.norm() for gradient in gradients]).norm()
        for parameter, gradient in zip(learning, gradients, strict=True):
            parameter.data -= 0.02 * min(1.0, losses[0]) * gradient / length  # near its end it would step over it
    return losses


def work(model: Path, folder: Path, *, steps: int, side: int = 64) -> None:
    pictures = draw_pictures(folder / "pictures", 4)
    result = distill(
        data=pictures, out=folder / "run", model=str(model), image_size=side, max_steps=steps, batch_size=4, lr=2e-4,
        workers=0, precision="fp32", max_regions=4, flip=0.0, device="cpu", warmup_steps=0,
    )  # fmt: skip
    assert 0 < result.last_loss < 2
    refined, original = load_clip(folder / "run" / "student"), load_clip(model)
    losses = learn(original, steps=steps)
    assert losses[-1] < 0.999 * losses[0]
    theirs = original.clip.state_dict()
    changed = {part for part, tensor in refined.clip.state_dict().items() if not torch.equal(tensor, theirs[part])}
    learnt = [part for part in refined.trunk.parts if any(True for _ in part.parameters())]
    names = {id(tensor): part for part, tensor in refined.clip.named_parameters()}
    inside = {names[id(tensor)] for part in learnt for tensor in part.parameters()}
    assert changed
    assert changed <= inside  # batch statistics, pools, heads and texts stay
    annotations = write_coco(pictures, {f"{place}.png": [[4, 4, 40, 40]] for place in range(4)})
    (report,) = evaluate_regions(
        model=(str(folder / "run" / "student"),), annotations=annotations, images=pictures, image_size=side,
        templates="simple", modes=("boxes", "crops"), device="cpu",
    )  # fmt: skip
    assert report.scores["boxes"].regions == 4
    images = torch.randn(1, 3, side, 2 * side)
    again = load_clip(save_clip(refined, folder / "again"))
    assert torch.equal(again.dense_map(images), refined.dense_map(images))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_family_is_distilled_evaluated_and_exported(name: str, tmp_path: Path) -> None:
    work(save_clip(twin_clip(name, tmp_path / "hub"), tmp_path / "model"), tmp_path, steps=3)


def test_a_tipsv2_is_distilled_evaluated_and_exported(tmp_path: Path) -> None:
    write_tips(tmp_path / "model")
    work(tmp_path / "model", tmp_path, steps=3)


@pytest.mark.slow
@pytest.mark.parametrize("name", TWINS)
def test_every_twin_is_distilled_evaluated_and_exported(name: str, tmp_path: Path) -> None:
    side = 128 if name == "MobileCLIP2-S3" else 64
    work(save_clip(twin_clip(name, tmp_path / "hub"), tmp_path / "model"), tmp_path, steps=10, side=side)
