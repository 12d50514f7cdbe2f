"""Norms of convolution maps by name, one of them over all processes on any device."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.choices import pick


class _SumOverProcesses(torch.autograd.Function):
    """The sum over all processes; the gradient of a sum is the sum of the gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


class BatchNorm(nn.BatchNorm2d):
    """Batch norm whose statistics are those of all processes while it trains; parameters and names are the stock ones.

    PyTorch's own `SyncBatchNorm` does the same on accelerators only.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalises (B, C, ...) by channel."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return self._alone(input)
        return self._together(input)

    def _alone(self, input: Tensor) -> Tensor:
        # An empty batch (no regions at all) has no statistics; it passes through with the running ones.
        if self.training and input.numel() == 0:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)

    def _together(self, input: Tensor) -> Tensor:
        assert self.running_mean is not None
        assert self.running_var is not None
        dims = [0, *range(2, input.ndim)]
        values = input.float()
        count = values.new_full((1,), float(values.numel() // max(1, values.shape[1])))
        sums: Tensor = _SumOverProcesses.apply(torch.cat([values.sum(dims), count]))
        count = sums[-1:].detach().clamp(min=1)
        mean = sums[:-1] / count
        shape = [1, -1, *[1] * (input.ndim - 2)]
        centred = values - mean.view(shape)
        variance: Tensor = _SumOverProcesses.apply(centred.square().sum(dims)) / count
        if float(count) > 1:
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum or 0.1)
                self.running_var.lerp_(variance * count / (count - 1), self.momentum or 0.1)
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
        normed = centred * (variance + self.eps).rsqrt().view(shape)
        return (normed * self.weight.view(shape) + self.bias.view(shape)).to(input.dtype)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of a map."""

    def forward(self, maps_BCYX: Tensor) -> Tensor:
        """Normalises every cell."""
        return super().forward(maps_BCYX.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _group_norm(channels: int) -> nn.Module:
    groups = next(groups for groups in (32, 16, 8, 4, 2, 1) if channels % groups == 0)
    return nn.GroupNorm(groups, channels)


NORMS: Final[Mapping[str, Callable[[int], nn.Module]]] = {
    "batch": BatchNorm,
    "group": _group_norm,
    "none": lambda channels: nn.Identity(),
}
"""Batch norm is the published one and wants many images at once; group norm does not care; "none" leaves biases."""


def make_norm(name: str, channels: int) -> nn.Module:
    """A norm over maps of so many channels.

    Raises:
        ValueError: The name is unknown.
    """
    return pick(NORMS, name, what="norm")(channels)


class ConvNorm(nn.Module):
    """Convolution, norm, and ReLU where wanted; the convolution has a bias only where no norm follows.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        kernel: Side of the kernel; the map keeps its size.
        norm: Row of `NORMS`.
        relu: Whether a ReLU follows.
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: int, norm: str, relu: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=norm == "none")
        self.norm = make_norm(norm, outputs)
        self.relu = relu

    def forward(self, maps_BCYX: Tensor) -> Tensor:
        """(B, C, Y, X) -> (B, C', Y, X)."""
        normed: Tensor = self.norm(self.conv(maps_BCYX))
        return F.relu(normed) if self.relu else normed
