"""Where masks come from: files, decoders of our own on a frozen CLIP, checkpoints of transformers."""

from clipself.renamed import attach as _attach

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
