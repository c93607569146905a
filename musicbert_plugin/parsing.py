"""Parsing what others wrote: whole numbers, JSON, YAML and ``.npy`` files.

The parsers of Python, PyYAML and numpy raise a dozen types of errors for damaged input, some of them
(``RecursionError``, ``MemoryError``) only for unusual damage.  These functions raise ``ValueError`` for all of it, with
a reason in one line; the caller names the file and what is accepted.

Every layer may import this module.
"""

from __future__ import annotations

import io
import json
import re
import reprlib
import tokenize
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.files import open_regular, read_regular_text

_WHOLE_NUMBER = re.compile("[0-9]{1,18}")
_DAMAGE = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError, MemoryError)
NPY_MAGIC = b"\x93NUMPY"


def whole_number(text: str) -> int | None:
    """The number of a text of 1 to 18 ASCII digits; None for any other text.

    ``str.isdigit`` also accepts superscripts, which ``int`` refuses, and more digits than ``int`` converts.
    """
    return int(text) if _WHOLE_NUMBER.fullmatch(text) else None


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.  Raises ValueError."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
    except ValueError as error:
        raise ValueError(_one_line(error)) from None


def read_json(path: str | Path) -> Any:
    """The value of a JSON file in UTF-8.  Raises ValueError, also if the file cannot be read."""
    try:
        return parse_json(read_regular_text(path))
    except OSError as error:
        raise ValueError(error.strerror or _one_line(error)) from None


def parse_yaml(text: str, loader: Any = None) -> Any:
    """The value of a YAML text; tags of Python objects are refused.

    Parameters
    ----------
    text : str
    loader : subclass of yaml.SafeLoader, optional

    Raises
    ------
    ValueError
        It is damaged.
    """
    import yaml

    try:
        return (loader or yaml.SafeLoader)(text).get_single_data()
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
    except (yaml.YAMLError, *_DAMAGE) as error:  # dates and numbers in it are converted by Python's own functions
        raise ValueError(_one_line(error)) from None


def read_npy(source: str | Path | bytes, *, memory_map: bool = False) -> NDArray[Any]:
    """The array of a ``.npy`` file, or of its content; arrays of objects, which are pickles, are refused.

    Parameters
    ----------
    source : path or bytes
    memory_map : bool
        Whether the values of a file stay in it until they are used.

    Raises
    ------
    ValueError
        It is damaged, or cannot be read.
    """
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open_regular(source) as file:
            if file.read(len(NPY_MAGIC)) != NPY_MAGIC:  # numpy would report a pickle, and how to load it
                raise ValueError("it does not begin as a .npy file does")
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the old and of the impossible numbers in damaged headers
                if not memory_map:
                    return np.lib.format.read_array(file, allow_pickle=False)
                assert not isinstance(source, bytes)
                return np.load(source, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise ValueError(error.strerror or _one_line(error)) from None
    except (*_DAMAGE, EOFError, SyntaxError, tokenize.TokenError) as error:
        objects = "allow_pickle" in str(error) or "Python objects" in str(error)
        raise ValueError("it holds Python objects, not numbers" if objects else _one_line(error)) from None


def shortened(value: Any) -> str:
    """A value of any type as a message shows it: one line of at most 80 characters."""
    try:
        text = " ".join(reprlib.repr(value).split())
    except ValueError:  # Python writes no number of more than 4,300 digits
        text = f"a {type(value).__name__} that is too long to be shown"
    return text if len(text) <= 80 else text[:77] + "..."


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
