"""CORA: a class-aware DETR on a frozen CLIP, whose regions a tuned attention pool names."""
