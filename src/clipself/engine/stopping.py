"""What asks a run to stop: Ctrl-C and the signals of schedulers. One way for all: the state is saved, then it ends."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from clipself.engine.distributed import World

SIGNALS: Final = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""What is met; of them a scheduler sends all but Ctrl-C's, some time ahead of a kill."""

BY_HAND: Final = 130
"""Exit code after Ctrl-C."""

BY_SCHEDULER: Final = 75
"""Exit code after SIGTERM or SIGUSR1: "try again" of sysexits.h, so that a job script can tell it from a failure."""

CODES: Final = (BY_HAND, BY_SCHEDULER)


class Stopped(KeyboardInterrupt):
    """A run that was asked to stop, and did.

    Attributes:
        code: The exit code that tells who asked.
    """

    def __init__(self, said: str, *, code: int) -> None:
        super().__init__(said)
        self.code = code


class StopRequest:
    """Whether somebody has asked this process to stop.

    What is between two steps, or can be made anew, ends at once; within `later` a request waits, so that no weights are
    half updated. Only a second Ctrl-C ends that too: schedulers and launchers repeat what they send.
    """

    def __init__(self) -> None:
        self.code = 0
        """Exit code of who asked; 0 where nobody did."""
        self._waits = False
        self._process = os.getpid()

    def ask(self, number: int, frame: object = None) -> None:
        """Takes a signal."""
        del frame
        if os.getpid() != self._process:
            return  # a worker that was forked a moment ago and does not yet leave stopping to the run
        again, by_hand = bool(self.code), number == signal.SIGINT
        if by_hand or not again:
            self.code = BY_HAND if by_hand else BY_SCHEDULER
        if not self._waits or (again and by_hand):
            raise self.stopped("stopped")

    def stopped(self, said: str, *, code: int | None = None) -> Stopped:
        """What to raise."""
        return Stopped(said, code=code or self.code)

    @contextmanager
    def later(self) -> Iterator[None]:
        """Within, a request waits for who looks at `code`."""
        with self._waiting(True):
            yield

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within a part of `later` that nothing is lost of, such as waiting for data, a request ends it at once."""
        with self._waiting(False):
            if self.code:
                raise self.stopped("stopped")
            yield

    @contextmanager
    def _waiting(self, waits: bool) -> Iterator[None]:
        before, self._waits = self._waits, waits
        try:
            yield
        finally:
            self._waits = before

    def agreed(self, world: "World") -> int:
        """The exit code on which all processes agree, Ctrl-C's first; 0 where none was asked. All must call it."""
        if world.size == 1:
            return self.code
        import torch

        asked = torch.tensor([float(self.code == code) for code in CODES], device=world.device)
        return next((code for code, count in zip(CODES, world.sum(asked).tolist(), strict=True) if count), 0)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turns `SIGNALS` into requests within; in another thread than the main one there are none."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before: dict[int, Any] = {number: signal.signal(number, request.ask) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
