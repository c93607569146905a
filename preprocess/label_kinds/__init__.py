"""The kinds of labelled datasets of notes that ``preprocess.labels`` builds, one module each."""
