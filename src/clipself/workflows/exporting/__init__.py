"""Models as graphs that run without this package, with the embeddings of names as an input."""
