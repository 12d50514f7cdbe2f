"""RO-ViT, CFM-ViT and DITO: a detector on a plain ViT with windows, and proposals by centreness."""
