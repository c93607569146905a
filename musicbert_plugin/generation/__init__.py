"""From a model and a request, or a piece with bars to rewrite, to new music.  Knows nothing of fairseq."""
