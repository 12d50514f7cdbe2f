"""The paper's tables again: official data and released weights in, every row that can be run beside its figures out."""
