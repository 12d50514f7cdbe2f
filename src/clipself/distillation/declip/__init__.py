"""DeCLIP: the last block's queries learn from a guide which patches belong together, beside what crops teach."""
