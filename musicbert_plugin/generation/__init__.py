"""Generating music from a model and a request, and rewriting bars of a piece; independent of fairseq."""
