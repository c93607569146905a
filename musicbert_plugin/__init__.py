"""A fairseq plugin that learns from music as notes and as sound: ``fairseq-train --user-dir musicbert_plugin``.

Importing the package loads neither torch nor fairseq, so that preprocessing starts at once.  fairseq itself imports
``tasks/`` and ``models/`` of a user directory, but skips both without an error if the package was imported before it;
so they are imported here when fairseq is already loaded, and otherwise by :func:`register`.
"""

from __future__ import annotations

import importlib
import sys

__version__ = "0.2.0"


def register() -> None:
    """Import fairseq, and register every task, model and criterion of the plugin with it.  May be called repeatedly."""
    importlib.import_module("fairseq")
    importlib.import_module("musicbert_plugin.tasks")
    importlib.import_module("musicbert_plugin.models")


if "fairseq" in sys.modules:
    register()
