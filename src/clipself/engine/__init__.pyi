from .callbacks import Progress as Progress
from .checkpoint import load_state as load_state
from .checkpoint import save_state as save_state
from .config import RunConfig as RunConfig
from .config import Settings as Settings
from .distributed import World as World
from .distributed import join_world as join_world
from .fields import UNSET as UNSET
from .loader import TrainingData as TrainingData
from .loader import make_loader as make_loader
from .log import RunLog as RunLog
from .log import read_metrics as read_metrics
from .loop import Loop as Loop
from .optim import SCHEDULES as SCHEDULES
from .optim import decay_groups as decay_groups
from .optim import warmup_constant as warmup_constant
from .optim import warmup_cosine as warmup_cosine
from .optim import warmup_poly as warmup_poly
from .precision import Precision as Precision
from .precision import make_precision as make_precision
from .resolve import recipe as recipe
from .result import TrainResult as TrainResult
from .run import train as train
from .sampler import EpochSampler as EpochSampler
from .step import Step as Step
from .task import Task as Task
from .task import digest_of as digest_of
from .trackers import TRACKERS as TRACKERS

__all__ = [
    "SCHEDULES",
    "TRACKERS",
    "UNSET",
    "EpochSampler",
    "Loop",
    "Precision",
    "Progress",
    "RunConfig",
    "RunLog",
    "Settings",
    "Step",
    "Task",
    "TrainResult",
    "TrainingData",
    "World",
    "decay_groups",
    "digest_of",
    "join_world",
    "load_state",
    "make_loader",
    "make_precision",
    "read_metrics",
    "recipe",
    "save_state",
    "train",
    "warmup_constant",
    "warmup_cosine",
    "warmup_poly",
]
