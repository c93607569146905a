"""Criterions, one registered name per file.  fairseq does not import this folder; ``tasks`` does."""

# isort: off
from musicbert_plugin.criterions import octuple_masked_lm  # noqa: F401  (registration)
from musicbert_plugin.criterions import spectrogram_reconstruction  # noqa: F401  (registration)
from musicbert_plugin.criterions import labels  # noqa: F401  (registration)
from musicbert_plugin.criterions import published_criterions  # noqa: F401  (registration)
