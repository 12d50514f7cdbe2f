from .dense_clip import DenseCLIP as DenseCLIP
from .dense_clip import TowerIdentity as TowerIdentity
from .export import blend_clips as blend_clips
from .export import save_clip as save_clip
from .export import sweep_blends as sweep_blends
from .gates import set_gates as set_gates
from .guides import Guide as Guide
from .guides import find_guide as find_guide
from .loading import clip_from_state_dict as clip_from_state_dict
from .loading import load_clip as load_clip
from .readouts import READOUTS as READOUTS
from .readouts import Readout as Readout
from .text import EmbeddedVocabulary as EmbeddedVocabulary
from .text import make_vocabulary as make_vocabulary
from .trainable import split_attention as split_attention
from .trainable import train_last_blocks as train_last_blocks
from .trainable import train_queries_and_values as train_queries_and_values
from .trainable import train_visual_attention as train_visual_attention
from .weights import read_state_dict as read_state_dict

__all__ = [
    "READOUTS",
    "DenseCLIP",
    "EmbeddedVocabulary",
    "Guide",
    "Readout",
    "TowerIdentity",
    "blend_clips",
    "clip_from_state_dict",
    "find_guide",
    "load_clip",
    "make_vocabulary",
    "read_state_dict",
    "save_clip",
    "set_gates",
    "split_attention",
    "train_last_blocks",
    "train_queries_and_values",
    "train_visual_attention",
]
