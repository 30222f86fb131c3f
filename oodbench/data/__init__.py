"""Image sets: where they come from, how they are read, matched to a classifier and put in batches."""
