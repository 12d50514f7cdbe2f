from .aggregator import AggregatorSettings as AggregatorSettings
from .aggregator import CostAggregator as CostAggregator

__all__ = ["AggregatorSettings", "CostAggregator"]
