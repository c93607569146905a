"""Models, one registered name per file.  fairseq imports this package after ``tasks``; both directions work alone."""

# isort: off
from . import linear_transformer_lm  # noqa: F401  (registration)
from . import musicbert  # noqa: F401  (registration)
from . import musicoder  # noqa: F401  (registration)
