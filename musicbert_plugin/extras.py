"""Packages that only some commands need, and what installs them.

A command asks for them before it begins, so that no work is lost.  Pure Python: every layer may import this module.
"""

from __future__ import annotations

from importlib.util import find_spec

from musicbert_plugin.errors import OptionError

EXTRAS = {
    "matplotlib": "pictures",
    "librosa": "audio",
    "music21": "quickstart",
    "sklearn": "",
    "tensorboardX": "",
    "safetensors": "",
    "soundfile": "",
    "soxr": "",
}
"""The extra of ``scripts/setup.sh`` that installs each package; those of none come with the plugin itself."""


def is_installed(package: str) -> bool:
    """Whether a package can be found; it is not imported."""
    try:
        return find_spec(package) is not None
    except ValueError:  # a module without a specification takes its name
        return True


def missing(package: str, purpose: str) -> OptionError:
    """The error for a package of :data:`EXTRAS` that cannot be imported.

    Parameters
    ----------
    package : str
    purpose : str
        What needs it, as the subject of a sentence: ``"the picture"``.
    """
    command = f"bash scripts/setup.sh {EXTRAS[package]}".strip()
    return OptionError(f"{purpose} needs {package}, which is not installed: {command} installs it.")


def require(package: str, purpose: str) -> None:
    """Raise :func:`missing` if a package of :data:`EXTRAS` is not installed."""
    if not is_installed(package):
        raise missing(package, purpose)
