from .names import parse_names as parse_names
from .synonyms import split_synonyms as split_synonyms
from .templates import TEMPLATES as TEMPLATES
from .templates import fill_templates as fill_templates
from .templates import load_templates as load_templates
from .templates import spoken_name as spoken_name
from .vocabulary import VOCABULARIES as VOCABULARIES
from .vocabulary import Vocabulary as Vocabulary
from .vocabulary import load_vocabulary as load_vocabulary

__all__ = [
    "TEMPLATES",
    "VOCABULARIES",
    "Vocabulary",
    "fill_templates",
    "load_templates",
    "load_vocabulary",
    "parse_names",
    "split_synonyms",
    "spoken_name",
]
