"""The tasks of the plugin.  Importing them makes fairseq work on today's versions (compat, which must come first)."""

from musicbert_plugin import compat  # noqa: F401
