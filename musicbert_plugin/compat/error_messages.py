"""Errors of fairseq commands with this plugin: one sentence on stderr, and exit status 2.

An error may come from the plugin (:mod:`musicbert_plugin.errors`), from fairseq, from a data-loader worker, or from a
process for another GPU.  :func:`sentence_for` returns its sentence, or ``None`` for a defect, whose traceback is shown.
With ``LOGLEVEL=DEBUG`` (a variable that fairseq's commands read) the traceback is always shown.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from musicbert_plugin.arguments import LARGEST_SEED
from musicbert_plugin.commands import DONE, INTERRUPTED, say, sentence_of, silence
from musicbert_plugin.errors import MusicError

# Messages of fairseq that are shown: the type, the beginning of the message, and the text to show instead, if any.
KNOWN_MESSAGES: tuple[tuple[type[BaseException], str, str], ...] = (
    (OSError, "Dataset not found", ""),
    (OSError, "Model file not found", ""),
    (Exception, "Cannot find dataset", ""),
    (AssertionError, "Must specify batch size either with --max-tokens or --batch-size", ""),
    (AssertionError, "--batch-size cannot be larger than --buffer-size", ""),
    (AssertionError, "Criterion does not match; please reset the optimizer", ""),
    (AssertionError, "Optimizer does not match; please reset the optimizer", ""),
    (ValueError, "--finetune-from-model", ""),
    (Exception, "Size of sample #", ""),
    (FloatingPointError, "Minimum loss scale reached", ""),
    (ValueError, "loaded state dict", "the optimizer of the checkpoint fits another model; add --reset-optimizer"),
)


UNWRITTEN = re.compile(r"PytorchStreamWriter failed|inline_container\.cc|iostream error")
"""What torch says where the system could not write a file; the system's own reason is lost."""


@dataclass(frozen=True)
class _Link:
    """An exception of a chain, caught as an object or read from the printed traceback of a worker."""

    kind: type[BaseException]
    message: str
    error: BaseException | None = None


@contextlib.contextmanager
def one_sentence(cfg: Any = None) -> Iterator[None]:
    """Run a command; an error that has a sentence (:func:`sentence_for`) ends the process with it and status 2.

    Ctrl-C ends it with a word and status 130.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()
        say("Interrupted.")
        raise SystemExit(INTERRUPTED) from error
    except BrokenPipeError:  # the reader of stdout has enough, as head does
        silence(1)
        raise SystemExit(DONE) from None
    except Exception as error:
        sentence = sentence_for(error, cfg)
        if sentence is None:
            raise
        end_with(sentence, error)


def end_with(sentence: str, error: BaseException) -> None:
    """Print the sentence (after the traceback, if the log level is DEBUG) and raise SystemExit(2)."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # nobody reads it, or its disk is full
        sys.stdout.flush()
    if os.environ.get("LOGLEVEL", "").upper() == "DEBUG":
        traceback.print_exception(type(error), error, error.__traceback__)
    say(sentence)
    raise SystemExit(2) from error


def report_hydra_job() -> None:
    """Report the errors of a hydra job like those of other commands.

    hydra runs ``main`` inside a job, keeps its exception, prints a traceback and ends with status 1.  The plugin is
    imported within that job, which is too late to wrap it, but before hydra reads its return value.
    """
    try:
        from hydra.core.utils import JobReturn
    except ImportError:
        return
    original: Any = JobReturn.return_value
    if getattr(original.fget, "ends_with_a_sentence", False):
        return

    def outcome(job: Any) -> Any:
        if isinstance(job._return_value, Exception):
            sentence = sentence_for(job._return_value, job.cfg)
            if sentence is not None:
                end_with(sentence, job._return_value)
        return original.fget(job)

    outcome.ends_with_a_sentence = True  # type: ignore[attr-defined]
    JobReturn.return_value = property(outcome, original.fset)  # type: ignore[assignment,method-assign]


def sentence_for(error: BaseException, cfg: Any = None) -> str | None:
    """The sentence to show for an error that the user can correct; ``None`` for a defect.

    The file that was being loaded is taken from ``cfg`` (fairseq's configuration) if the error does not name it.
    """
    links = _chain(error)
    for link in links:
        if issubclass(link.kind, MusicError):
            return link.message
    first = links[0]
    return (
        _architecture(links, cfg)
        or _file(first)
        or _hardware(first)
        or _open(first)
        or _seed(first, cfg)
        or _known(first)
        or _system(first)
    )


def _chain(error: BaseException) -> list[_Link]:
    """The exception and its causes, last raised first, including those in the printed traceback of a worker."""
    links: list[_Link] = []
    current: BaseException | None = error
    while current is not None and all(link.error is not current for link in links):
        message = str(current)
        # The data loader and torch.multiprocessing pass on the errors of other processes as text.
        enclosed = re.search(r"^(Original )?Traceback \(most recent call last\):$", message, re.MULTILINE)
        if enclosed:
            links += _read_traceback(message[enclosed.start() :])
        links.append(_Link(type(current), message, current))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return links


def _read_traceback(text: str) -> list[_Link]:
    """The exceptions of a printed traceback, last raised first."""
    links = []
    for part in re.split(r"^(?:Original )?Traceback \(most recent call last\):\n", text, flags=re.MULTILINE)[1:]:
        # Frames are indented; the exception is not, and ends before the sentence about the next exception.
        found = re.search(r"^([A-Za-z_][\w.]*)(?:: (.*))?\Z", part.strip("\n"), re.MULTILINE | re.DOTALL)
        if found:
            message = re.split(r"\n\n(?:During handling of|The above exception)", found[2] or "")[0]
            links.append(_Link(_class_named(found[1]), message.strip()))
    return links[::-1]


def _class_named(name: str) -> type[BaseException]:
    module, _, word = name.rpartition(".")
    found = getattr(sys.modules.get(module or "builtins"), word, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else Exception


def _known(link: _Link) -> str | None:
    for kind, beginning, instead in KNOWN_MESSAGES:
        if issubclass(link.kind, kind) and link.message.startswith(beginning):
            return _one_line(instead or link.message)
    return None


def _open(link: _Link) -> str | None:
    """A value that a YAML for hydra leaves to the user (``???``); the message has only the last part of its name."""
    found = re.match(r"Missing mandatory value: (?:\w+\.)*(\w+)", link.message)
    if link.kind.__name__ != "MissingMandatoryValue" or not found:
        return None
    return f"{found[1]} is missing: the configuration leaves it to the user; set it (task.{found[1]}=...)."


def _seed(link: _Link, cfg: Any) -> str | None:
    """A seed that numpy does not accept."""
    if not issubclass(link.kind, ValueError) or not link.message.startswith("Seed must be between 0 and"):
        return None
    seed = getattr(getattr(cfg, "common", None), "seed", "no seed")
    return f"--seed is {seed}, but a whole number from 0 to {LARGEST_SEED} is accepted."


def _file(link: _Link) -> str | None:
    """A file or folder that does not exist, or cannot be read or written."""
    if not issubclass(link.kind, OSError):
        return None
    found = re.match(r"\[Errno \d+\] (?P<reason>[^:]+): '(?P<file>.*?)'", link.message)
    if not found:
        return None
    if issubclass(link.kind, FileNotFoundError):
        return f"{found['file']} does not exist."
    return f"{found['file']} cannot be used: {found['reason'].lower()}."


def _system(link: _Link) -> str | None:
    """A file that cannot be written or read, of which the error does not say which: that of a stream, or of torch."""
    if isinstance(link.error, OSError):
        return sentence_of(link.error)
    if issubclass(link.kind, RuntimeError) and UNWRITTEN.search(link.message):
        return "a checkpoint cannot be written: the disk is full, or a limit on the size of files is reached."
    return None


def _hardware(link: _Link) -> str | None:
    if re.search(r"not compiled with CUDA enabled|Found no NVIDIA driver|No CUDA GPUs are available", link.message):
        return "The options need a CUDA GPU (as --fp16 does), but torch finds none: use --bf16 and --cpu."
    processes = re.match(r"world size is (\d+) but have (\d+) available devices", link.message)
    if issubclass(link.kind, AssertionError) and processes:
        return (
            f"--distributed-world-size is {processes[1]}, but there are {processes[2]} GPUs: on a CPU, start "
            f'them with torchrun --nproc_per_node {processes[1]} "$(command -v fairseq-train)" and the same arguments.'
        )
    if link.kind.__name__ in ("OutOfMemoryError", "AcceleratorError") and "out of memory" in link.message:
        return "The GPU ran out of memory: lower --batch-size or --max-tokens, and raise --update-freq instead."
    return None


def _architecture(links: list[_Link], cfg: Any) -> str | None:
    """A checkpoint whose parameters are not those of the model; the sentence has the file and the differences."""
    file = _loaded_file(cfg)
    for link in links:
        named = re.match(r"Cannot load model parameters from checkpoint (.*); please ensure", link.message)
        file = named[1] if named else file
        if link.message.startswith("Error(s) in loading state_dict"):
            return f"{file} holds another architecture than this model: {_difference(link.message)}."
        if not named and link is links[0]:
            return None
    if file and len(links) > 1:
        return f"{file} cannot be loaded into this model: {_one_line(links[1].message)}"
    return None


def _difference(message: str) -> str:
    """The differences in a message of ``load_state_dict``: the first of each kind, and how many there are."""
    differences = []
    mismatch = r"size mismatch for ([\w.]+): copying a param with shape (.*?) from checkpoint, .*? is (.*?)\.(?:\s|$)"
    shapes = re.findall(mismatch, message)
    if shapes:
        name, in_file, in_model = shapes[0]
        differences.append(f"{name} is {_shape(in_file)} in the file and {_shape(in_model)} here{_more(shapes)}")
    for wording, meaning in (("Missing", "is not in the file"), ("Unexpected", "is in the file only")):
        found = re.search(rf"{wording} key\(s\) in state_dict: (.*?)\. ?(?:\n|$)", message)
        names = re.findall(r'"([^"]+)"', found[1]) if found else []
        if names:
            differences.append(f"{names[0]} {meaning}{_more(names)}")
    return "; ".join(differences) or _one_line(message)


def _more(things: list[Any]) -> str:
    return f" (and {len(things) - 1} more)" if len(things) > 1 else ""


def _shape(text: str) -> str:
    return " x ".join(re.findall(r"\d+", text)) or "a single number"


def _loaded_file(cfg: Any) -> str:
    """The checkpoint of ``--path``."""
    path = getattr(getattr(cfg, "common_eval", None), "path", None) or getattr(cfg, "path", None)
    return str(path) if path else "The checkpoint"


def _one_line(message: str) -> str:
    return " ".join(message.split())
