"""A folder and words in, a labelled data set and a page to look it through out."""
