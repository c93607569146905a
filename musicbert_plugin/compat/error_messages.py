"""Errors of fairseq commands with this plugin: one sentence on stderr, and exit status 2.

A command fails in many places: in the plugin (:mod:`musicbert_plugin.errors`), in fairseq, in a data-loader worker, in
a process that was spawned for another GPU.  :func:`sentence_for` finds the sentence in whatever arrives; ``None`` means
that the error is a defect and its traceback is shown.  With ``LOGLEVEL=DEBUG`` (the variable that fairseq's commands
read) the traceback is shown in any case.
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

from musicbert_plugin.errors import MusicError
from musicbert_plugin.files import shown

# messages of fairseq that are shown: the type, the beginning of the message, and what to show instead
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


@dataclass(frozen=True)
class _Link:
    """One exception of a chain, whether it was caught as an object or read from the text of a worker's traceback."""

    kind: type[BaseException]
    message: str
    error: BaseException | None = None


@contextlib.contextmanager
def one_sentence(cfg: Any = None) -> Iterator[None]:
    """Run a command's body; what :func:`sentence_for` knows ends the process with that sentence and status 2."""
    try:
        yield
    except Exception as error:
        sentence = sentence_for(error, cfg)
        if sentence is None:
            raise
        end_with(sentence, error)


def end_with(sentence: str, error: BaseException) -> None:
    """Print the sentence (after the traceback, where the log level is DEBUG) and raise SystemExit(2)."""
    sys.stdout.flush()
    if os.environ.get("LOGLEVEL", "").upper() == "DEBUG":
        traceback.print_exception(type(error), error, error.__traceback__)
    print(shown(sentence), file=sys.stderr, flush=True)
    raise SystemExit(2) from error


def report_hydra_job() -> None:
    """Let the outcome of a hydra job end like any other command.

    hydra runs ``main`` inside a job, keeps its exception, prints a traceback and ends with 1.  The plugin is imported
    within that job, too late to wrap it, but before hydra reads the outcome.
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
    """The one sentence to show for an error that a user can mend; ``None`` for a defect.

    ``cfg`` (fairseq's configuration) tells which file was being loaded where the error does not.
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
    )


def _chain(error: BaseException) -> list[_Link]:
    """The exception and what led to it, last raised first; a worker's traceback is opened up where one is enclosed."""
    links: list[_Link] = []
    current: BaseException | None = error
    while current is not None and all(link.error is not current for link in links):
        message = str(current)
        # the data loader and torch.multiprocessing hand over what happened in another process as text
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
        # frames are indented; the exception begins at the margin and ends before the remark that leads to the next one
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
    """A value that a YAML for hydra leaves to its user (``???``); the whole name of it is known to hydra alone."""
    found = re.match(r"Missing mandatory value: (?:\w+\.)*(\w+)", link.message)
    if link.kind.__name__ != "MissingMandatoryValue" or not found:
        return None
    return f"{found[1]} is not given: the configuration leaves it open, so name it (task.{found[1]}=...)."


def _seed(link: _Link, cfg: Any) -> str | None:
    """A number that numpy takes no seed from."""
    if not issubclass(link.kind, ValueError) or not link.message.startswith("Seed must be between 0 and"):
        return None
    seed = getattr(getattr(cfg, "common", None), "seed", None)
    return f"--seed{'' if seed is None else f' {seed}'}: 0 to {2**32 - 1} is accepted."


def _file(link: _Link) -> str | None:
    """A file or folder that is not there, or may not be read or written."""
    if not issubclass(link.kind, OSError):
        return None
    found = re.match(r"\[Errno \d+\] (?P<reason>[^:]+): '(?P<file>.*?)'", link.message)
    if not found:
        return None
    if issubclass(link.kind, FileNotFoundError):
        return f"{found['file']} does not exist."
    return f"{found['file']} cannot be used: {found['reason'].lower()}."


def _hardware(link: _Link) -> str | None:
    if re.search(r"not compiled with CUDA enabled|Found no NVIDIA driver|No CUDA GPUs are available", link.message):
        return "The options ask for a CUDA GPU (as --fp16 does), and torch finds none here: use --bf16 and --cpu."
    processes = re.match(r"world size is (\d+) but have (\d+) available devices", link.message)
    if issubclass(link.kind, AssertionError) and processes:
        return (
            f"--distributed-world-size {processes[1]} was given and there are {processes[2]} GPUs: on a CPU, start "
            f'them with torchrun --nproc_per_node {processes[1]} "$(command -v fairseq-train)" and the same arguments.'
        )
    if link.kind.__name__ in ("OutOfMemoryError", "AcceleratorError") and "out of memory" in link.message:
        return "The GPU ran out of memory: lower --batch-size or --max-tokens, and raise --update-freq instead."
    return None


def _architecture(links: list[_Link], cfg: Any) -> str | None:
    """A checkpoint whose parameters are not those of the model: name the file and what differs."""
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
    """In words, what ``load_state_dict`` found: the first of each kind of difference, and how many there are."""
    differences = []
    mismatch = r"size mismatch for ([\w.]+): copying a param with shape (.*?) from checkpoint, .*? is (.*?)\.(?:\s|$)"
    shapes = re.findall(mismatch, message)
    if shapes:
        name, there, here = shapes[0]
        differences.append(f"{name} is {_shape(there)} in the file and {_shape(here)} here{_more(shapes)}")
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
