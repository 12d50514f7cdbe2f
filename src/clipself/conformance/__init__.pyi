from .check import Check as Check
from .check import compare as compare
from .report import ParityReport as ParityReport
from .run import parity as parity

__all__ = ["Check", "ParityReport", "compare", "parity"]
