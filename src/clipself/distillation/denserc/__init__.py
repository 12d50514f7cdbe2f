"""DenseRC: the dense map is read out of the values of several blocks, by gates that learn inside CLIPSelf's loss."""
