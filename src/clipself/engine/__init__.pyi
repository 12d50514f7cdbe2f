from .checkpoint import load_state as load_state
from .checkpoint import save_state as save_state
from .distributed import World as World
from .distributed import join_world as join_world
from .log import RunLog as RunLog
from .log import read_metrics as read_metrics
from .loop import Loop as Loop
from .loop import LoopConfig as LoopConfig
from .optim import SCHEDULES as SCHEDULES
from .optim import decay_groups as decay_groups
from .optim import warmup_constant as warmup_constant
from .optim import warmup_cosine as warmup_cosine
from .optim import warmup_poly as warmup_poly
from .precision import Precision as Precision
from .precision import make_precision as make_precision

__all__ = [
    "SCHEDULES",
    "Loop",
    "LoopConfig",
    "Precision",
    "RunLog",
    "World",
    "decay_groups",
    "join_world",
    "load_state",
    "make_precision",
    "read_metrics",
    "save_state",
    "warmup_constant",
    "warmup_cosine",
    "warmup_poly",
]
