"""Log lines go where errors go, and cannot command the terminal; output that cannot be written ends no run in noise."""

import logging
import os
import sys
from io import TextIOWrapper
from typing import TextIO

from clipself.text.printable import printable


class TerminalHandler(logging.Handler):
    """Writes log lines to whatever `sys.stderr` is at the time, so that a redirected one gets them too."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one line."""
        print(printable(self.format(record)), file=sys.stderr)


class OutputLost(OSError):
    """What is printed cannot be written: the disk is full, or who read it has gone."""


class _Output(TextIOWrapper):
    """An output whose faults can be told from those of files."""

    def write(self, text: str, /) -> int:
        """Writes, or says that it is lost."""
        try:
            return super().write(text)
        except OSError as error:
            raise OutputLost(error.errno, error.strerror) from error

    def flush(self) -> None:
        """Writes what is held back, or says that it is lost."""
        try:
            super().flush()
        except OSError as error:
            raise OutputLost(error.errno, error.strerror) from error


def watch_output() -> None:
    """From now on prints that cannot be written raise `OutputLost`; a process may be started without outputs."""
    sys.stdout, sys.stderr = _watched(sys.stdout), _watched(sys.stderr)


def _watched(stream: TextIO) -> TextIO:
    if not isinstance(stream, TextIOWrapper):
        return stream
    return _Output(
        stream.buffer, encoding=stream.encoding, errors=stream.errors, line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )  # fmt: skip


def flush_output() -> None:
    """Writes what was printed so far.

    Raises:
        OutputLost: It cannot be written.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def forget_output() -> None:
    """What cannot be written goes nowhere, so that Python says no word about it when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OutputLost:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def log_to_terminal() -> None:
    """Adds the handler, once."""
    root = logging.getLogger()
    if not any(isinstance(handler, TerminalHandler) for handler in root.handlers):
        root.addHandler(TerminalHandler())
    logging.getLogger("huggingface_hub").propagate = False  # which prints its lines itself
