"""How a command starts and ends: its standard streams, its exit status, and the sentence of an error.

Status 0: done.  1: done, but some inputs failed, each named on stderr.  2: could not start or go on, for the reason on
stderr.  130: interrupted.  Standard output carries data only.

A standard stream may be closed (``>&-``), its reader may end early (``| head``), and the disk behind it may be full.
Messages that nobody can receive do not stop a command.  Data that cannot be written do: with status 0 if the reader has
enough, else with a sentence and status 2.

Pure Python: every layer may import this module.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from musicbert_plugin.errors import MusicError
from musicbert_plugin.files import shown

DONE, SOME_FAILED, CANNOT_START, INTERRUPTED = 0, 1, 2, 130
STANDARD_OUTPUT = "standard output"
_NOT_FOUND = (errno.ENOENT, errno.ENOTDIR)


def say(sentence: str) -> None:
    """Print one line on stderr; if that is impossible, it is lost."""
    try:
        print(shown(sentence), file=sys.stderr, flush=True)
    except (OSError, ValueError):  # the reader has closed it, its disk is full, or it is closed
        silence(2)


def write_line(line: str) -> None:
    """Write one line of data to stdout at once.

    Raises
    ------
    BrokenPipeError
        The reader has closed it, as ``head`` does.
    OSError
        It cannot be written; the error names standard output as its file.
    """
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (OSError, AttributeError, ValueError) as error:  # AttributeError, ValueError: the stream is closed
        raise _about_standard_output(error) from None


def sentence_of(error: BaseException) -> str | None:
    """The sentence of an error that the user can correct; ``None`` for a defect.

    It is that of a :class:`MusicError`, or tells which file an ``OSError`` of the system is about.
    """
    if isinstance(error, MusicError):
        return str(error)
    if not isinstance(error, OSError) or error.errno is None:
        return None
    reason = error.strerror or os.strerror(error.errno)
    if error.filename is None:
        return f"a file cannot be used ({reason})."
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename)
    if error.errno in _NOT_FOUND:
        return f"{name}: no such file or folder."
    return f"{name}: cannot be {'written' if name == STANDARD_OUTPUT else 'used'} ({reason})."


def run_command(main: Callable[[list[str]], int], arguments: list[str] | None = None, prefix: str = "") -> NoReturn:
    """Run a command and exit with its status; an error that has a sentence (:func:`sentence_of`) ends it with 2.

    Parameters
    ----------
    main : callable
        Takes the arguments and returns the status.
    arguments : list of str, optional
        By default those of the process.
    prefix : str
        What stands before the sentence of an error.
    """
    occupy_standard_streams()
    status: Any
    try:
        status = main(sys.argv[1:] if arguments is None else arguments)
    except SystemExit as ending:  # of argparse
        status = ending.code
    except KeyboardInterrupt:
        say("Interrupted.")
        status = INTERRUPTED
    except BrokenPipeError:  # the reader of stdout has closed it, as head does
        status = DONE
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None:
            raise
        say(prefix + sentence)
        status = CANNOT_START
    sys.exit(_flush(status, prefix))


def _flush(status: Any, prefix: str) -> Any:
    """Write what is still in the buffers of the standard streams; Python itself would print a traceback."""
    try:
        sys.stdout.flush()
    except OSError as error:
        silence(1)
        if not isinstance(error, BrokenPipeError) and status != CANNOT_START:
            say(prefix + str(sentence_of(_about_standard_output(error))))
            status = CANNOT_START
    try:
        sys.stderr.flush()
    except OSError:
        silence(2)
    return status


def _about_standard_output(error: BaseException) -> OSError:
    """The error of writing to stdout, with its name as the file."""
    number = getattr(error, "errno", None) or errno.EBADF  # a stream that Python has closed has none
    return OSError(number, "it is closed" if number == errno.EBADF else os.strerror(number), STANDARD_OUTPUT)


def occupy_standard_streams() -> None:
    """Open the standard streams that are closed, so that no other file gets their numbers.

    Otherwise the next file that is opened would be number 1 or 2, and receive what libraries and other processes print.
    Reading from stdin gives its end, writing to stdout fails, and writing to stderr has no effect.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)
            if opened != number:  # a lower number is free on systems that do not give the lowest
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)


def silence(number: int) -> None:
    """Lead a standard stream to nothing."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, number)
        os.close(nothing)
    except OSError:
        pass
