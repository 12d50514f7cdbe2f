"""Embeddings of pictures, boxes and names as tables in files."""
