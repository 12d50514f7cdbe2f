"""What is said of the first picture that shows it, and not of the thousands that follow."""

import logging


class Once:
    """A warning that is said once.

    Args:
        log: Where it is said.
    """

    def __init__(self, log: logging.Logger) -> None:
        self.log, self.said = log, False

    def warn(self, text: str, *parts: object) -> None:
        """Says it, with what `text` leaves open for `parts`, unless it was said."""
        if not self.said:
            self.said = True
            self.log.warning(text, *parts)
