"""The plugin from Python: one class per family of models, each loaded from one checkpoint file.

* :class:`MusicBERTHub`: hidden states, vectors, labels, masked fields and rewritten bars of pieces;
* :class:`MuseCocoHub`: new music from requests;
* :class:`MusiCoderHub`: hidden states and labels of recordings.

Importing this package registers the plugin with fairseq.  ``python -m musicbert_plugin.hub`` converts checkpoints.
"""

from __future__ import annotations

import musicbert_plugin

musicbert_plugin.register()

from musicbert_plugin.hub.musecoco import MuseCocoHub  # noqa: E402  (everything below needs fairseq with the plugin)
from musicbert_plugin.hub.musicbert import Filled, MaskPredictions, MusicBERTHub  # noqa: E402
from musicbert_plugin.hub.musicoder import MusiCoderHub  # noqa: E402

__all__ = ["Filled", "MaskPredictions", "MuseCocoHub", "MusiCoderHub", "MusicBERTHub"]
