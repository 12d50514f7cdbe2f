from .synonyms import split_synonyms as split_synonyms
from .templates import TEMPLATES as TEMPLATES
from .templates import fill_templates as fill_templates
from .templates import load_templates as load_templates
from .vocab import VOCABS as VOCABS
from .vocab import Vocab as Vocab
from .vocab import load_vocab as load_vocab

__all__ = ["TEMPLATES", "VOCABS", "Vocab", "fill_templates", "load_templates", "load_vocab", "split_synonyms"]
