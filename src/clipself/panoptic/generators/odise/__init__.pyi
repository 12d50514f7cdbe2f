from .heads import OdiseHeads as OdiseHeads
from .heads import OdisePrediction as OdisePrediction

__all__ = ["OdiseHeads", "OdisePrediction"]
