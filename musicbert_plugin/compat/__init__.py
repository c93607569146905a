"""What it takes to run on today's fairseq and torch, and how commands fail: see ``fairseq`` and ``error_messages``."""
