"""Models, one registered name per file.  fairseq imports this package after ``tasks``; both directions work alone."""

from . import musicbert  # noqa: F401  (registration)
