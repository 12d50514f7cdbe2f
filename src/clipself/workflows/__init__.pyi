from .labelling.run import label as label
from .quickstart import quickstart as quickstart
from .show import show_kmeans as show_kmeans
from .show import show_query as show_query
from .weights import blend as blend
from .weights import convert as convert

__all__ = ["blend", "convert", "label", "quickstart", "show_kmeans", "show_query"]
