from .anchors import grid_anchors as grid_anchors
from .axes import pieces as pieces
from .axes import unfold_axis as unfold_axis
from .boxes import check_boxes as check_boxes
from .boxes import clip_boxes as clip_boxes
from .boxes import denormalize_boxes as denormalize_boxes
from .boxes import enlarge_boxes as enlarge_boxes
from .boxes import enlarge_boxes_xywh as enlarge_boxes_xywh
from .boxes import normalize_boxes as normalize_boxes
from .boxes import xywh_to_xyxy as xywh_to_xyxy
from .boxes import xyxy_to_xywh as xyxy_to_xywh
from .deltas import decode_boxes as decode_boxes
from .deltas import encode_boxes as encode_boxes
from .grids import grid_boxes as grid_boxes
from .grids import grid_choices as grid_choices
from .levels import pool_levels as pool_levels
from .levels import roi_levels as roi_levels
from .masks import masks_to_boxes as masks_to_boxes
from .masks import resize_masks_to_grid as resize_masks_to_grid
from .matching import draw_sample as draw_sample
from .matching import match_boxes as match_boxes
from .pooling import pool_boxes as pool_boxes
from .pooling import pool_mask_logits as pool_mask_logits
from .pooling import pool_masks as pool_masks
from .positions import resize_position_table as resize_position_table
from .windows import cut_windows as cut_windows
from .windows import merge_windows as merge_windows
from .windows import place_windows as place_windows

__all__ = [
    "check_boxes",
    "clip_boxes",
    "cut_windows",
    "decode_boxes",
    "denormalize_boxes",
    "draw_sample",
    "encode_boxes",
    "enlarge_boxes",
    "enlarge_boxes_xywh",
    "grid_anchors",
    "grid_boxes",
    "grid_choices",
    "masks_to_boxes",
    "match_boxes",
    "merge_windows",
    "normalize_boxes",
    "pieces",
    "place_windows",
    "pool_boxes",
    "pool_levels",
    "pool_mask_logits",
    "pool_masks",
    "resize_masks_to_grid",
    "resize_position_table",
    "roi_levels",
    "unfold_axis",
    "xywh_to_xyxy",
    "xyxy_to_xywh",
]
