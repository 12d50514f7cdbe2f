from .diffusion import LatentDiffusion as LatentDiffusion
from .diffusion import load_diffusion as load_diffusion
from .fcclip import FcClipHeads as FcClipHeads
from .features import FEATURES as FEATURES
from .files import FileMasks as FileMasks
from .learned import LEARNED as LEARNED
from .mask_set import MaskGenerator as MaskGenerator
from .mask_set import MaskSet as MaskSet
from .own import OwnMasks as OwnMasks
from .own import build_mask_model as build_mask_model
from .own import load_own_masks as load_own_masks
from .own import save_own_masks as save_own_masks
from .table import GENERATORS as GENERATORS
from .table import open_generator as open_generator
from .transformers import TransformersMasks as TransformersMasks
from .transformers import load_transformers_masks as load_transformers_masks

__all__ = [
    "FEATURES",
    "GENERATORS",
    "LEARNED",
    "FcClipHeads",
    "FileMasks",
    "LatentDiffusion",
    "MaskGenerator",
    "MaskSet",
    "OwnMasks",
    "TransformersMasks",
    "build_mask_model",
    "load_diffusion",
    "load_own_masks",
    "load_transformers_masks",
    "open_generator",
    "save_own_masks",
]
