from .accuracy import ClassAccuracy as ClassAccuracy
from .accuracy import MeanClassAccuracy as MeanClassAccuracy

__all__ = ["ClassAccuracy", "MeanClassAccuracy"]
