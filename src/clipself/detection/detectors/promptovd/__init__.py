"""PromptOVD in our reading: class names as prompts of a deformable DETR, boxes judged by the CLIP in one pass."""
