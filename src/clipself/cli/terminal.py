"""Log lines go where errors go, and cannot command the terminal."""

import logging
import sys

from clipself.text.printable import printable


class TerminalHandler(logging.Handler):
    """Writes log lines to whatever `sys.stderr` is at the time, so that a redirected one gets them too."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one line."""
        print(printable(self.format(record)), file=sys.stderr)


def log_to_terminal() -> None:
    """Adds the handler, once."""
    root = logging.getLogger()
    if not any(isinstance(handler, TerminalHandler) for handler in root.handlers):
        root.addHandler(TerminalHandler())
    logging.getLogger("huggingface_hub").propagate = False  # which prints its lines itself
