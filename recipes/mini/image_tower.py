"""Trains the blocks of the image tower on what the frozen stem says of crops, kept or cut anew in every epoch."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from crops import Crop, plan, rows_of_step
from fresh import FreshCrops, Seen
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from phrases import JOINT, caption_vectors, vectors_of
from pool import captions_of
from timm import create_model
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

import clipself.backbones.mini_tower  # noqa: F401  registers the tower
from clipself.engine.precision import make_precision

STEPS, SAVE_EVERY = 6000, 100
COSINE_WEIGHT, CAPTION_WEIGHT = 1.0, 1.0
SHARPNESS = 30.0
"""Of the sentence encoder's similarities: two captions that say nearly the same are nearly the same answer."""
EMA_DECAY = 0.998
KEEP, KEEP_UNTIL = 0.45, 0.85
"""Share of the patches that a step sees, and for how much of the schedule; then all of them."""


class Blocks(nn.Module):
    """The tower without its stem: features (B, 112, Y, X) -> embeddings (B, 256)."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = create_model("clipself_mini_hybrid", num_classes=JOINT, drop_path_rate=0.05)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(20.0)))

    def forward(self, features: Tensor, *, keep: float = 1.0) -> Tensor:
        """What timm's tower does after its stem; a share of the patches may be left out at random.

        Source of the dropping: FLIP (arXiv:2212.00794); neighbours of a stem say much the same, and steps cost half.

        Returns:
            Embeddings (B, D) by the class token. No loss ever looks at the dense map.
        """
        trunk = self.trunk
        tokens = trunk.patch_embed.proj(features).flatten(2).mT + trunk.pos_embed[:, 1:]
        if keep < 1.0:
            chosen = torch.rand(tokens.shape[:2], device=tokens.device).argsort(dim=1)[
                :, : round(keep * tokens.shape[1])
            ]
            tokens = tokens.gather(1, chosen[..., None].expand(-1, -1, tokens.shape[2]))
        first = (trunk.cls_token + trunk.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        tokens = trunk.norm_pre(torch.cat([first, tokens], dim=1))
        return self.trunk.forward_head(trunk.norm(trunk.blocks(tokens)))  # type: ignore[no-any-return]


class Crops(Protocol):
    """Where crops come from."""

    @property
    def total(self) -> int:
        """Crops that are learned from in an epoch."""

    def steps(self, start: int, *, batch_size: int) -> Iterator[Seen]:
        """Endless batches, beginning with a step."""

    def held_out(self) -> Seen:
        """Crops that are only measured."""


class CachedCrops:
    """What `cache.py` wrote: each crop once, whatever the number of epochs.

    Args:
        work: Folder with `cache/`.
        held_out: Crops at the end of the plan that are only measured.
    """

    def __init__(self, work: Path, *, held_out: int) -> None:
        self.features = np.load(work / "cache/features.npy", mmap_mode="r")
        self.classes = np.load(work / "cache/classes.npy", mmap_mode="r")
        self.held = held_out
        self.total = int((work / "cache/done.txt").read_text()) - held_out

    def steps(self, start: int, *, batch_size: int) -> Iterator[Seen]:
        """Endless batches, beginning with a step."""
        step = start
        while True:
            _, rows = rows_of_step(step, batch_size=batch_size, total=self.total)
            yield self._at(np.sort(rows))  # for the sake of the disk
            step += 1

    def held_out(self) -> Seen:
        """The last crops of the plan."""
        return self._at(np.arange(self.total, self.total + self.held))

    def _at(self, rows: np.ndarray) -> Seen:
        features, classes = torch.from_numpy(self.features[rows]), torch.from_numpy(self.classes[rows])
        return Seen(features.float(), classes.float(), torch.from_numpy(rows))


class Targets:
    """What every crop should be close to: a distribution over ImageNet's names, a label, captions, a vector.

    Args:
        data: Folder of the captions.
        work: Folder with `phrases.pt`.
        rows: The plan.
        device: Where the tower learns.
    """

    def __init__(self, data: Path, work: Path, rows: Sequence[Crop], *, device: torch.device) -> None:
        self.labels = sorted({row.label for row in rows if row.label})
        place = {label: index for index, label in enumerate(self.labels)}
        self.label_of = torch.tensor([place.get(row.label, -1) for row in rows], device=device)
        self.is_drawn = torch.tensor([row.source in ("art", "stuff") for row in rows], device=device)
        self.imagenet_KD = vectors_of(IMAGENET_CLASSNAMES, work).to(device)
        self.labels_KD = vectors_of(self.labels, work).to(device)
        texts, captions_CD = caption_vectors(work)
        self.captions_CD = captions_CD.to(device)
        number = {text: index for index, text in enumerate(texts)}
        said = {member: [number[text] for text in held] for member, held in captions_of(data).items()}
        held = [said.get(row.member, []) if row.whole and not row.label else [] for row in rows]
        most = max(1, max(map(len, held)))
        self.captions_of = torch.tensor([numbers + [-1] * (most - len(numbers)) for numbers in held], device=device)

    def captions(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the crops that have any: which they are (B,), shares (n, C) of all captions, mean vectors (n, D)."""
        numbers = self.captions_of[index]
        told = numbers[:, 0] >= 0
        numbers = numbers[told]
        there = (numbers >= 0)[..., None]
        own = self.captions_CD[numbers.clamp_min(0)]
        count = there.sum(1).clamp_min(1)
        shares = (SHARPNESS * own @ self.captions_CD.T).softmax(-1)
        return told, (shares * there).sum(1) / count, F.normalize((own * there).sum(1) / count, dim=-1)


def loss_of(embeddings: Tensor, scale: Tensor, classes: Tensor, index: Tensor, targets: Targets) -> Tensor:
    """KL to the networks' classes, cross-entropy to labels and captions, cosine to the target vector."""
    unit, count = F.normalize(embeddings.float(), dim=-1), len(index)
    label, is_drawn = targets.label_of[index], targets.is_drawn[index]
    labelled = label >= 0
    soft = classes.float()
    soft = soft / soft.sum(-1, keepdim=True)
    told, shares, said = targets.captions(index)
    vector = F.normalize(soft @ targets.imagenet_KD, dim=-1)
    vector[labelled], vector[told] = targets.labels_KD[label[labelled]], said
    distance = (1 - (unit * vector).sum(-1)).mean()
    logits = (scale * unit @ targets.imagenet_KD.T).log_softmax(-1)
    divergence = (soft * ((soft + 1e-8).log() - logits)).sum(-1)[~is_drawn].sum() / count
    named = (
        F.cross_entropy(
            scale * unit[labelled] @ targets.labels_KD.T, label[labelled], label_smoothing=0.05, reduction="sum"
        )
        / count
    )
    loss = divergence + named + COSINE_WEIGHT * distance
    likely = (scale * unit[told] @ targets.captions_CD.T).log_softmax(-1)
    return loss - CAPTION_WEIGHT * (shares * likely).sum() / count


def train_image_tower(
    data: Path,
    work: Path,
    *,
    steps: int,
    batch_size: int = 64,
    lr: float = 7e-4,
    held_out: int = 1024,
    fresh: bool = False,
    device: str = "cpu",
    workers: int = 2,
) -> Path:
    """Trains for a number of steps; continues from its last checkpoint.

    Args:
        data: Folder of the pictures' plan.
        work: Folder with `phrases.pt` and, unless `fresh`, `cache/`; receives `image.pt`.
        steps: Length of the schedule.
        batch_size: Crops a step.
        lr: Peak learning rate.
        held_out: Crops at the end of the plan that are only measured.
        fresh: Whether crops are cut anew in every epoch and seen by several networks, and no patch is left out.
        device: Where the tower learns.
        workers: Processes that cut fresh crops.
    """
    torch.manual_seed(0)
    place = torch.device(device)
    rows = plan(data)
    crops: Crops = (
        FreshCrops(data, rows, device=place, workers=workers, held_out=held_out)
        if fresh
        else CachedCrops(work, held_out=held_out)
    )
    targets, model = Targets(data, work, rows, device=place), Blocks().to(place)
    learning = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim >= 2], "weight_decay": 0.05},
        {"params": [p for p in learning if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(EMA_DECAY))
    path, step = work / "image.pt", 0
    if path.exists():
        held = torch.load(path, weights_only=True, map_location=place)
        if held["optimizer"] is None:  # taken up from an earlier export
            model.load_state_dict(held["model"])
        else:
            model.load_state_dict(held["learning"])
            average.module.load_state_dict(held["model"])
            average.n_averaged.fill_(held["step"])
            optimizer.load_state_dict(held["optimizer"])
        step, lr = held["step"], held["lr"]
    measured = crops.held_out()
    batches = crops.steps(step, batch_size=batch_size)
    progress = tqdm(desc="image tower", unit="step", initial=step, total=steps)
    while step < steps:
        share = step / steps
        torch.manual_seed(step)  # of the patches left out: a continued run is the same run
        seen = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = lr * min((step + 1) / 200, 0.5 * (1 + math.cos(math.pi * share)) + 1e-3)
        with make_precision("auto", place).autocast():
            embeddings = model(seen.features, keep=KEEP if share < KEEP_UNTIL and not fresh else 1.0)
        scale = model.logit_scale.exp().clamp(max=100)
        loss = loss_of(embeddings, scale, seen.classes, seen.index, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        average.update_parameters(model)
        step += 1
        progress.update()
        if step % 20 == 0:
            progress.set_postfix(loss=f"{loss.item():.3f}", scale=f"{scale.item():.1f}")
        if step % SAVE_EVERY == 0 or step == steps:
            scores = measure(average.module, measured, targets)
            _save(path, average.module, model, optimizer, step=step, lr=lr)
            with (work / "image.jsonl").open("a") as log:
                log.write(json.dumps({"step": step, "loss": loss.item(), **scores}) + "\n")
    return path


@torch.no_grad()
def measure(model: Blocks, seen: Seen, targets: Targets) -> dict[str, float]:
    """Held-out crops: agreement with the networks' first class, accuracy on labels of photographs and of drawings."""
    model.eval()
    unit = F.normalize(model(seen.features), dim=-1)
    model.train()
    agree = (unit @ targets.imagenet_KD.T).argmax(-1) == seen.classes.argmax(-1)
    label, is_drawn = targets.label_of[seen.index], targets.is_drawn[seen.index]
    right = (unit @ targets.labels_KD.T).argmax(-1) == label
    photo = (label >= 0) & ~is_drawn
    return {
        "agree": agree[~is_drawn].float().mean().item(),
        "photo_top1": right[photo].float().mean().item(),
        "drawn_top1": right[is_drawn].float().mean().item(),
    }


def _save(
    path: Path, average: nn.Module, model: nn.Module, optimizer: torch.optim.Optimizer, *, step: int, lr: float
) -> None:
    part = path.with_suffix(".part")
    held = {"model": average.state_dict(), "learning": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**held, "step": step, "lr": lr}, part)
    part.replace(path)


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=7e-4)
    parser.add_argument("--fresh", action="store_true", help="cut crops anew in every epoch; for a GPU and many cores")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=2, help="processes that cut fresh crops")
    options = vars(parser.parse_args())
    train_image_tower(options.pop("data"), options.pop("work"), **options)
