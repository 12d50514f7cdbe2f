from .bars import draw_comparison as draw_comparison
from .bars import draw_loss as draw_loss
from .boxes import DrawnBox as DrawnBox
from .boxes import draw_boxes as draw_boxes
from .dots import draw_dots as draw_dots
from .heatmap import draw_query as draw_query
from .kmeans import draw_kmeans as draw_kmeans
from .panels import lay_out as lay_out
from .panoptic_maps import paint_segments as paint_segments
from .report import ReportPage as ReportPage
from .segments import draw_panels as draw_panels
from .segments import draw_segments as draw_segments

__all__ = [
    "DrawnBox",
    "ReportPage",
    "draw_boxes",
    "draw_comparison",
    "draw_dots",
    "draw_kmeans",
    "draw_loss",
    "draw_panels",
    "draw_query",
    "draw_segments",
    "lay_out",
    "paint_segments",
]
