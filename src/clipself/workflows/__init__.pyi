from .embedding.run import embed as embed
from .exporting.run import export as export
from .exporting.run import export_names as export_names
from .labelling.run import label as label
from .live.run import demo as demo
from .quickstart import quickstart as quickstart
from .reproduction.run import reproduce as reproduce
from .show import show_kmeans as show_kmeans
from .show import show_query as show_query
from .side_by_side import compare as compare
from .weights import blend as blend
from .weights import convert as convert

__all__ = [
    "blend",
    "compare",
    "convert",
    "demo",
    "embed",
    "export",
    "export_names",
    "label",
    "quickstart",
    "reproduce",
    "show_kmeans",
    "show_query",
]
