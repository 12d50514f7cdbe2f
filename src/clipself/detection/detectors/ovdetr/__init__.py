"""OV-DETR: a deformable DETR whose queries are asked for one class at a time."""
