"""Formats of labelling tools: what is found is written in them, and they are read wherever COCO's are."""
