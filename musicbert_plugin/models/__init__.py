"""Models, one registered name per file.  fairseq imports this package after ``tasks``; both directions work alone."""

# isort: off
from musicbert_plugin.models import linear_transformer_lm  # noqa: F401  (registration)
from musicbert_plugin.models import musicbert  # noqa: F401  (registration)
from musicbert_plugin.models import musicoder  # noqa: F401  (registration)
