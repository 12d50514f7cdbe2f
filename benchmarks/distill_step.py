"""One step of self-distillation beside a plain eager reference, in one process, interleaved.

The reference is written for this benchmark and costs what the published code costs: attention matrices are
materialised in every block, the student's last block runs its ordinary attention and throws it away, the teacher's
last block computes every token, float32. Figures are ratios of the median of several steps, interleaved, so that other
work on the machine cancels out.

Usage: python benchmarks/distill_step.py --models EVA02-B-16 ViT-B-16 --sizes 512 1024
"""

import argparse
import gc
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.loading import load_clip
from clipself.backbones.tokens import Tokens, join_heads
from clipself.backbones.transformer import require_blocks
from clipself.distillation.clipself import ClipSelf
from clipself.engine.optim import decay_groups
from clipself.losses.cosine import cosine_loss
from clipself.ops.grids import grid_boxes
from clipself.ops.pooling import pool_boxes
from clipself.structures import DistillBatch
from clipself.workflows.peak_memory import STATUS, PeakMemory
from figures import Figures, add_json, headline


@dataclass
class Timing:
    """Seconds of the parts of one step."""

    teacher: float = 0.0
    student: float = 0.0
    backward: float = 0.0
    optimizer: float = 0.0
    parts: tuple[str, ...] = field(default=("teacher", "student", "backward", "optimizer"), repr=False)

    @property
    def total(self) -> float:
        """Seconds of the whole step."""
        return sum(float(getattr(self, part)) for part in self.parts)


class Clock:
    """Times a piece of work: by the clock, the device's queue included; on a CPU in seconds of the processor."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Tensor, float]:
        """The result and its seconds."""
        self._wait()
        now = time.perf_counter if self.device.type == "cuda" else time.process_time
        begun = now()
        result = work()
        self._wait()
        return result, now() - begun

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def plain_block(clip: DenseCLIP, block: torch.nn.Module, sequence: Tokens) -> Tensor:
    """A block whose attention matrix is materialised."""
    trunk, tokens = require_blocks(clip, "the benchmark"), sequence.tokens
    normed = trunk.norm_attention(block, tokens)
    query, key = (trunk.rotate(trunk.project(block, normed, part), sequence) for part in "qk")
    attention = (query * trunk.head_dim**-0.5 @ key.mT).softmax(-1)
    mixed = trunk.merge_heads(block, join_heads(attention @ trunk.project(block, normed, "v")))
    tokens = tokens + mixed
    return tokens + trunk.feed_forward(block, tokens)


def plain_embed(clip: DenseCLIP, images: Tensor) -> Tensor:
    """Every token through every block, then the class token."""
    trunk = require_blocks(clip, "the benchmark")
    sequence = trunk.embed(images)
    for block in trunk.blocks:
        sequence = sequence.with_tokens(plain_block(clip, block, sequence))
    return F.normalize(trunk.head(sequence.tokens)[:, 0], dim=-1)


def plain_dense(clip: DenseCLIP, images: Tensor) -> Tensor:
    """The value readout, with the ordinary last block run and thrown away as in the release."""
    trunk = require_blocks(clip, "the benchmark")
    sequence = trunk.embed(images)
    for block in list(trunk.blocks)[:-1]:
        sequence = sequence.with_tokens(plain_block(clip, block, sequence))
    last = trunk.blocks[-1]
    plain_block(clip, last, sequence)
    tokens = sequence.tokens
    value = join_heads(trunk.project(last, trunk.norm_attention(last, tokens), "v"))
    tokens = tokens + trunk.merge_heads(last, value)
    tokens = tokens + trunk.feed_forward(last, tokens)
    patches = F.normalize(trunk.head(tokens)[:, 1:], dim=-1)
    return patches.mT.reshape(len(images), -1, *sequence.grid)


def timed_step(
    method: ClipSelf, optimizer: torch.optim.Optimizer, batch: DistillBatch, *, plain: bool, bf16: bool
) -> Timing:
    """One step, part by part."""
    clock, timing = Clock(method.student.device), Timing()
    device = method.student.device.type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
        with torch.no_grad():
            embed = plain_embed if plain else (lambda clip, crops: clip.encode_image(crops))
            teacher, timing.teacher = clock(lambda: embed(method.teacher, batch.crops_R3hw))
        dense_of = plain_dense if plain else (lambda clip, images: clip.dense_map(images))

        def forward() -> Tensor:
            dense = dense_of(method.student, batch.images_B3HW)
            with torch.autocast(device, enabled=False):
                return cosine_loss(pool_boxes(dense.float(), list(batch.boxes_norm)), teacher.float())

        loss, timing.student = clock(forward)

    def backward() -> Tensor:
        torch.autograd.backward(loss)
        return loss

    _, timing.backward = clock(backward)
    _, timing.optimizer = clock(lambda: optimizer.step() or loss)
    optimizer.zero_grad(set_to_none=True)
    return timing


def make_batch(clip: DenseCLIP, size: int, crops: int, device: torch.device) -> DistillBatch:
    rows = max(1, round(crops**0.5 * 0.87))
    boxes = grid_boxes(rows, -(-crops // rows))[:crops]
    generator = torch.Generator().manual_seed(0)
    return DistillBatch(
        images_B3HW=torch.randn(1, 3, size, size, generator=generator),
        boxes_norm=(boxes,),
        crops_R3hw=torch.randn(len(boxes), 3, *clip.image_size, generator=generator),
        names=("noise",),
    ).to(device)


def held_mib(device: torch.device) -> float:
    """What is taken now, by tensors of a CUDA device or by the process; 0 where nobody knows."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated() / 2**20
    return int(STATUS.read_text().split()[1]) * resource.getpagesize() / 2**20 if STATUS.is_file() else 0.0


def measure(
    model: str, size: int, crops: int, steps: int, device: torch.device, bf16: bool, which: str, figures: Figures
) -> None:
    """Interleaves our step and the reference's; or runs one alone, for its peak memory."""
    method = ClipSelf(load_clip(model, "random", device=device))
    optimizer = torch.optim.AdamW(decay_groups(method.learning, weight_decay=0.1), lr=1e-5)
    batch = make_batch(method.teacher, size, crops, device)
    runs = {"ours": (False, False), "reference": (True, False)}
    if bf16:
        runs = {"ours bf16": (False, True), **runs}
    if which != "all":
        idle = held_mib(device)
        with PeakMemory(device) as peak:
            timed_step(method, optimizer, batch, plain=runs[which][0], bf16=runs[which][1])
        print(f"peak {peak.mib or 0:.0f} idle {idle:.0f}")
        return
    taken: dict[str, list[Timing]] = {name: [] for name in runs}
    for step in range(steps + 1):
        for name, (plain, low) in runs.items():
            timing = timed_step(method, optimizer, batch, plain=plain, bf16=low)
            if step or not steps:  # the first step warms up
                taken[name].append(timing)
    middle = {name: sorted(some, key=lambda one: one.total)[len(some) // 2] for name, some in taken.items()}
    for name, timing in middle.items():
        parts = "  ".join(f"{part} {getattr(timing, part):7.3f}" for part in timing.parts)
        ratio = middle["reference"].total / timing.total
        print(
            f"{model:12} {size:5} {crops:3}  {name:10} {1 / timing.total:7.3f} images/s  {parts}  x{ratio:.2f}",
            flush=True,
        )
        dtype, title = ("bf16" if runs[name][1] else "fp32"), name.removesuffix(" bf16")
        figures.note(f"{model} {size} px, {crops} crops: {title}", 1 / timing.total, "images/s", dtype=dtype)
        if name != "reference":
            figures.note(f"{model} {size} px, {crops} crops: times the reference", ratio, "x", dtype=dtype)
            again = middle["reference"].total / (timing.total - timing.teacher)
            print(f"{'':33} with the teacher's embeddings cached (--views)  x{again:.2f}", flush=True)
            figures.note(f"{model} {size} px, {crops} crops: the same, embeddings cached", again, "x", dtype=dtype)


def memory_alone(model: str, size: int, crops: int, which: str, device: str) -> float | None:
    """Peak memory of one variant in a process of its own, above what the models take; None where none was seen."""
    words = ["--models", model, "--sizes", str(size), "--crops", str(crops), "--only", which, "--device", device]
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{which} alone did not end: {done.stderr.strip().splitlines()[-1:]}", flush=True)
        return None
    _, peak, _, idle = done.stdout.split()[-4:]
    return float(peak) - float(idle) if float(peak) > float(idle) else None


def compare_memory(model: str, size: int, crops: int, device: str, figures: Figures) -> None:
    """Our peak beside the reference's; a share only where both have one."""
    ours, theirs = (memory_alone(model, size, crops, which, device) for which in ("ours", "reference"))
    said = [f"{one:.0f} MiB" if one is not None else "no figure" for one in (ours, theirs)]
    share = f", {100 * ours / theirs:.0f} %" if ours is not None and theirs is not None else ""
    print(f"{model:12} {size:5}      peak above idle: {said[0]} of {said[1]}{share}", flush=True)
    for name, one in (("ours", ours), ("reference", theirs)):
        if one is not None:
            figures.note(f"{model} {size} px, {crops} crops: {name}, peak above idle", one, "MiB")
    if ours is not None and theirs is not None:
        figures.note(f"{model} {size} px, {crops} crops: memory over the reference's", ours / theirs, "x")


def dense_forward(model: str, size: int, steps: int, device: torch.device, figures: Figures) -> None:
    """The dense map beside the stock tower's own forward pass, built by open_clip for that size."""
    clip = load_clip(model, "random", device=device)
    stock = open_clip.create_model(model, force_image_size=size, device=device).visual.eval()
    clock = Clock(device)
    images = torch.randn(1, 3, size, size, device=device)
    ours, bare = list[float](), list[float]()
    with torch.no_grad():
        for _ in range(2 * steps + 1):
            ours.append(clock(lambda: clip.dense_map(images))[1])
            bare.append(clock(lambda: stock(images))[1])
    ratio = median(ours) / median(bare)
    print(f"{model:12} {size:5}      dense map / stock forward at the same size: {ratio:.3f}", flush=True)
    figures.note(f"{model} {size} px: dense map over the stock forward pass", ratio, "x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["EVA02-B-16", "ViT-B-16"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[512])
    parser.add_argument("--crops", type=int, default=12)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="also time bfloat16 autocast")
    parser.add_argument("--memory", action="store_true", help="also run each variant alone for its peak memory")
    parser.add_argument("--only", default="all", help=argparse.SUPPRESS)
    add_json(parser)
    options = parser.parse_args()
    device, figures = torch.device(options.device), Figures(options.json)
    if options.only == "all":
        print(headline())
    for model in options.models:
        for size in options.sizes:
            how = (model, size, options.crops)
            measure(*how, options.steps, device, options.bf16, options.only, figures)
            gc.collect()
            if options.only == "all":
                dense_forward(model, size, options.steps, device, figures)
                if options.memory:
                    compare_memory(*how, options.device, figures)


if __name__ == "__main__":
    main()
