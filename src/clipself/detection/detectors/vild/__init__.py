"""ViLD: region embeddings distilled from crops."""
