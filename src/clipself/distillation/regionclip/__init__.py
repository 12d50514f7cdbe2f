"""RegionCLIP's way: the teacher names crops out of a list of words, and regions learn the names."""
