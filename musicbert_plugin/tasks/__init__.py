"""The tasks of the plugin.  Importing them makes fairseq work on today's versions (compat, which must come first)."""

# isort: off
from musicbert_plugin.compat import fairseq as compat  # noqa: F401
from musicbert_plugin import criterions  # noqa: F401  (registration; fairseq itself imports only tasks and models)
from musicbert_plugin.tasks import octuple_masked_lm  # noqa: F401  (registration)
from musicbert_plugin.tasks import published_tasks  # noqa: F401  (registration)
from musicbert_plugin.tasks import spectrogram_reconstruction  # noqa: F401  (registration)
from musicbert_plugin.tasks import audio_multitask  # noqa: F401  (registration)
from musicbert_plugin.tasks import music_sequence_prediction  # noqa: F401  (registration)
from musicbert_plugin.tasks import music_token_prediction  # noqa: F401  (registration)
from musicbert_plugin.tasks import attribute_to_music  # noqa: F401  (registration)
