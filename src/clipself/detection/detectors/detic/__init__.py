"""Detic: detectors that learn classes from image labels and captions too."""
