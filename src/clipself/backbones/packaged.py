"""Which of the packaged CLIPs does what where none is named; free of heavy imports."""

from typing import Final

REFINED: Final = "clipself-mini-refined"
"""Names pixels and regions of users' pictures: its dense map is the only one that was taught what crops say."""
