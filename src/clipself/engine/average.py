"""The moving average of what learns: steadier weights than those of any one step."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """Averaged copies of parameters: after each step they keep a share `decay` of what they were.

    Args:
        learning: The parameters.
        decay: In [0, 1); None keeps no average, and the parameters stand for themselves.
    """

    def __init__(self, learning: Sequence[nn.Parameter], decay: float | None) -> None:
        self.learning, self.decay = learning, decay
        self.held = [] if decay is None else [parameter.detach().clone() for parameter in learning]

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the parameters as they are."""
        if self.decay is not None:
            torch._foreach_lerp_(self.held, [parameter.detach() for parameter in self.learning], 1 - self.decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The parameters are their averages within."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def state(self) -> list[Tensor]:
        """The averages, for a training state."""
        return [held.cpu() for held in self.held]

    @torch.no_grad()
    def load(self, state: Sequence[Tensor]) -> None:
        """Takes up what `state` gave."""
        for held, kept in zip(self.held, state, strict=True):
            held.copy_(kept)

    @torch.no_grad()
    def _exchange(self) -> None:
        for place, held in enumerate(self.held):
            parameter = self.learning[place]
            self.held[place] = parameter.detach().clone()
            parameter.copy_(held)
