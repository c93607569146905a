"""What all dataset builders share: sources, workers, near-duplicates, splits, assembly and their command line."""
