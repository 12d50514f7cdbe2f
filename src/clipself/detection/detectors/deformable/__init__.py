"""What detectors on a deformable DETR share: network, settings, rates, and what is found at last."""
