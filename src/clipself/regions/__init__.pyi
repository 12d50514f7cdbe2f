from .config import RegionsEvaluateConfig as RegionsEvaluateConfig
from .evaluate import evaluate_regions as evaluate_regions
from .evaluate import score_regions as score_regions
from .report import RegionReport as RegionReport
from .report import compare_reports as compare_reports

__all__ = ["RegionReport", "RegionsEvaluateConfig", "compare_reports", "evaluate_regions", "score_regions"]
