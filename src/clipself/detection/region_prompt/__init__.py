"""CORA's region prompt: the positions of a CLIP's attention pool, tuned on the boxes of base classes."""
