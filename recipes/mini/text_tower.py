"""Trains the text tower to say what the sentence encoder says, on a pruned byte-pair vocabulary."""

import gzip
import json
import math
import random
from pathlib import Path
from typing import Any, ClassVar

import open_clip.tokenizer
import torch
import torch.nn.functional as F
from open_clip.model import CLIPTextCfg, _build_text_tower
from open_clip.tokenizer import SimpleTokenizer
from phrases import JOINT, TEMPLATES
from torch import Tensor, nn
from tqdm import tqdm

from clipself.engine.precision import make_precision

STEPS = 3000

MERGES = 8000
"""Byte pairs kept of open_clip's 48,894; any word can still be spelled."""

CONTEXT = 32
TEXT_CFG: dict[str, Any] = {
    "context_length": CONTEXT,
    "vocab_size": 2 * 256 + MERGES + 2,
    "width": 256,
    "heads": 4,
    "layers": 4,
    "tokenizer_kwargs": {"bpe_path": "merges.txt.gz"},
}


def write_merges(path: Path) -> Path:
    """The first byte pairs of open_clip's file (MIT licence), in the form that its tokenizer reads."""
    source = Path(open_clip.tokenizer.default_bpe())
    lines = gzip.decompress(source.read_bytes()).decode("utf-8").split("\n")
    with gzip.GzipFile(path, "wb", mtime=0) as stream:
        stream.write("\n".join(lines[: MERGES + 1]).encode("utf-8"))
    return path


def make_tokenizer(merges: Path) -> SimpleTokenizer:
    """Checks that the file gives the vocabulary that the tower is built for."""
    tokenizer = SimpleTokenizer(bpe_path=str(merges), context_length=CONTEXT)
    if tokenizer.vocab_size != TEXT_CFG["vocab_size"]:
        raise ValueError(f"the merges give {tokenizer.vocab_size} tokens, the tower has {TEXT_CFG['vocab_size']}")
    return tokenizer


class Phrases:
    """Draws (text, target) pairs: listed names often, other nouns and sentences once in a while."""

    SHARES: ClassVar = {"names": 0.35, "extra": 0.4, "sentences": 0.25}

    def __init__(self, work: Path) -> None:
        held = torch.load(work / "phrases.pt", weights_only=True)
        self.texts, self.vectors = held["texts"], held["vectors"]

    def draw(self, count: int, rng: random.Random) -> tuple[list[str], Tensor]:
        """Texts in the words of a random template, and the joint-space vectors of what they name."""
        texts, targets = [], []
        # One kind a batch: a single long sentence would make every short name as dear as itself.
        (kind,) = rng.choices(list(self.SHARES), weights=list(self.SHARES.values()))
        for _ in range(count):
            place = rng.randrange(len(self.texts[kind]))
            text = self.texts[kind][place]
            if kind != "sentences":
                text = rng.choice(TEMPLATES).format(text)
            texts.append(text + "." if rng.random() < 0.3 else text)
            targets.append(self.vectors[kind][place])
        return texts, torch.stack(targets).float()


def train_text_tower(work: Path, *, steps: int, batch_size: int = 256, lr: float = 1e-3, device: str = "cpu") -> Path:
    """Trains for a number of steps; continues from its last checkpoint. Writes `text.pt`."""
    torch.manual_seed(0)
    place = torch.device(device)
    tokenizer = make_tokenizer(write_merges(work / "merges.txt.gz"))
    tower: Any = _build_text_tower(JOINT, CLIPTextCfg(**TEXT_CFG)).to(place)
    phrases, path = Phrases(work), work / "text.pt"
    optimizer = torch.optim.AdamW(tower.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.02)
    step = 0
    if path.exists():
        held = torch.load(path, weights_only=True, map_location=place)
        tower.load_state_dict(held["model"])
        if held["optimizer"] is not None:  # None: taken up from an earlier export
            optimizer.load_state_dict(held["optimizer"])
        step, lr = held["step"], held["lr"]
    progress = tqdm(desc="text tower", unit="step", initial=step, total=steps)
    while step < steps:
        rate = lr * min((step + 1) / 200, 0.5 * (1 + math.cos(math.pi * step / steps)) + 1e-3)
        for group in optimizer.param_groups:
            group["lr"] = rate
        tokens, targets = batch_of_step(phrases, tokenizer, step, batch_size=batch_size)
        loss = loss_of(tower, tokens.to(place), targets.to(place))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimizer.step()
        step += 1
        progress.update()
        if step % 20 == 0:
            progress.set_postfix(loss=f"{loss.item():.4f}")
        if step % 100 == 0 or step == steps:
            _save(path, tower, optimizer, step=step, lr=lr)
            with (work / "text.jsonl").open("a") as log:
                log.write(json.dumps({"step": step, "loss": loss.item()}) + "\n")
    return path


def batch_of_step(phrases: Phrases, tokenizer: Any, step: int, *, batch_size: int) -> tuple[Tensor, Tensor]:
    """Tokens and targets; four batches are drawn together and parted by length, as padding would be half the work."""
    texts, targets = phrases.draw(4 * batch_size, random.Random(step // 4))
    tokens = tokenizer(texts)
    rows = tokens.argmax(dim=1).argsort(stable=True).chunk(4)[step % 4]
    return tokens[rows], targets[rows]


def loss_of(tower: Any, tokens: Tensor, targets: Tensor) -> Tensor:
    """1 - cosine to the target, and telling the batch's targets apart."""
    longest = int(tokens.argmax(dim=1).max()) + 1  # the end token has the highest number
    whole = tower.attn_mask  # the stock tower wants its full context; short batches train many times faster
    tower.attn_mask = whole[:longest, :longest]
    try:
        with make_precision("auto", tokens.device).autocast():
            embeddings = tower(tokens[:, :longest])
    finally:
        tower.attn_mask = whole
    unit = F.normalize(embeddings.float(), dim=-1)
    distance = 1 - (unit * targets).sum(-1)
    # Soft targets: texts that mean nearly the same must not push each other away.
    wanted = (30 * targets @ targets.T).softmax(-1)
    apart = -(wanted * (30 * unit @ targets.T).log_softmax(-1)).sum(-1)
    return distance.mean() + 0.1 * apart.mean()


def _save(path: Path, tower: nn.Module, optimizer: torch.optim.Optimizer, *, step: int, lr: float) -> None:
    part = path.with_suffix(".part")
    torch.save({"model": tower.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "lr": lr}, part)
    part.replace(path)


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    train_text_tower(options.work, steps=options.steps, device=options.device)
