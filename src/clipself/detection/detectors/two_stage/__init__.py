"""What the two-stage detectors share: frozen CLIP, pyramid, proposals, regions."""
