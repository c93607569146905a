"""A checkpoint on a full disk ends with a sentence, and a log that nobody reads stops nothing."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from musicbert_plugin.errors import MusicError

pytestmark = pytest.mark.usefixtures("registered")


@contextlib.contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file may be larger, as on a disk with that much space."""
    resource = pytest.importorskip("resource", reason="limits of POSIX")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_files_of_the_hub_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    from musicbert_plugin.hub.checkpoints import strip_checkpoint, write_safetensors
    from tests.attacks.files import sections

    weights = {"a": torch.zeros(10_000)}
    torch.save({"args": None, "cfg": sections(), "model": weights}, tmp_path / "in.pt")
    for write in (
        lambda: strip_checkpoint(tmp_path / "in.pt", tmp_path / "out.pt"),
        lambda: write_safetensors(tmp_path / "out.safetensors", weights),
    ):
        with small_disk(5000), pytest.raises(MusicError, match=r"\A\S*out\.\w+ cannot be written \([^\n]*\)\.\Z"):
            write()
        assert [path.name for path in tmp_path.iterdir()] == ["in.pt"]
        write()
        next(tmp_path.glob("out.*")).unlink()


def test_a_training_on_a_full_disk_ends_with_a_sentence_and_goes_on_later(
    octuple_folder: Callable[..., Path],
    fairseq_command: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = octuple_folder(train=[30] * 4, valid=[30])
    words = """--task octuple_masked_lm --criterion octuple_masked_lm --arch musicbert_tiny --tokens-per-sample 256
        --encoder-layers 1 --encoder-embed-dim 8 --encoder-ffn-embed-dim 8 --encoder-attention-heads 2
        --optimizer adam --lr 0.001 --batch-size 2 --no-progress-bar --max-update 2 --save-dir""".split()
    with small_disk(20_000), pytest.raises(SystemExit) as ending:
        fairseq_command("train", data, *words, tmp_path / "saved")
    said = capsys.readouterr().err
    assert ending.value.code == 2
    assert "cannot be written (File too large); the same command goes on" in said and "Traceback" not in said
    assert not list((tmp_path / "saved").iterdir())
    fairseq_command("train", data, *words, tmp_path / "saved")
    assert (tmp_path / "saved" / "checkpoint_last.pt").is_file()


def test_errors_of_the_system_and_of_torch_while_writing_have_a_sentence() -> None:
    from musicbert_plugin.compat.error_messages import one_sentence, sentence_for

    assert sentence_for(OSError(errno.ENOSPC, "No space left on device")) == (
        "a file cannot be used (No space left on device)."
    )
    for said in (
        "[enforce fail at inline_container.cc:672] . unexpected pos 9 vs 5",
        "basic_ios::clear: iostream error",
    ):
        assert "the disk is full" in str(sentence_for(RuntimeError(said)))
    assert sentence_for(RuntimeError("a defect")) is None
    assert one_sentence is not None


def test_a_reader_that_has_enough_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from musicbert_plugin.compat import error_messages

    monkeypatch.setattr(error_messages, "silence", lambda number: None)
    with pytest.raises(SystemExit) as ending, error_messages.one_sentence():
        raise BrokenPipeError
    assert ending.value.code == 0


def test_a_log_that_nobody_reads_prints_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from musicbert_plugin.compat import fairseq

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    silenced: list[int] = []
    monkeypatch.setattr(fairseq, "silence", silenced.append)
    monkeypatch.setattr(fairseq, "occupy_standard_streams", lambda: None)
    fairseq.speak_to_nobody()
    gone = Gone()
    monkeypatch.setattr("sys.stdout", gone)
    handler = logging.StreamHandler(gone)
    handler.handle(logging.LogRecord("a", logging.INFO, "", 0, "a message", (), None))
    handler = logging.StreamHandler(io.StringIO())
    handler.handle(logging.LogRecord("a", logging.INFO, "", 0, "%d", ("a defect",), None))
    assert silenced == [1]
    said = capsys.readouterr().err
    assert said.count("--- Logging error ---") == 1 and "a defect" in said
    assert os.fstat(1)
