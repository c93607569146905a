"""A worker that hangs or dies costs one file; such a file is tried again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from musicbert_plugin.errors import DatasetError, OptionError
from preprocess import octuple
from preprocess.engine import pipeline as builder
from preprocess.engine.executors.local import LocalExecutor, batches
from preprocess.engine.journal import FileTask, WorkerConfig
from preprocess.engine.pipeline import BuildOptions
from preprocess.octuple import OctupleSpec

ROOT = Path(__file__).resolve().parents[3]
EVEN = "2,1,1"
Corpus = Callable[..., Path]
Content = Callable[[Path], dict[str, bytes]]
Manifest = Callable[[Path], dict[str, dict]]


@dataclass(frozen=True)
class Fragile(OctupleSpec):
    """Octuples, but some files hang or kill the process that reads them, as a defect in a MIDI library would."""

    folder: str = ""

    def read_piece(self, data: bytes, name: str) -> object:
        cause = Path(self.folder, f"{name}.cause")
        if cause.exists():
            if cause.read_text() == "hang":
                time.sleep(1000)
            if cause.read_text() == "raise":
                raise RuntimeError("a defect")
            os._exit(11)
        return super().read_piece(data, name)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spawned workers find this module under the name that pickle sends them."""
    monkeypatch.setitem(sys.modules, "test_workers", sys.modules[__name__])
    monkeypatch.setattr(Fragile, "__module__", "test_workers")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def run(source: Path, dest: Path, kind: OctupleSpec, **options: object) -> int:
    return builder.build([str(source)], kind, BuildOptions(dest=str(dest), split_ratios=EVEN, **options))


def test_files_that_timed_out_are_named_where_too_few_others_are_left(
    corpus: Corpus, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = corpus(4)
    causes = tmp_path / "causes"
    causes.mkdir()
    for name in ("001.mid", "002.mid"):
        (causes / f"{name}.cause").write_text("hang")
    kind = Fragile(folder=str(causes))
    with pytest.raises(OptionError, match=r"were lost \(timeout\)"):
        run(source, tmp_path / "data", kind, time_limit=2.0)
    assert capfd.readouterr().err.count("timeout; the same command tries it again") >= 2
    for cause in causes.iterdir():
        cause.unlink()
    assert run(source, tmp_path / "data", kind) == 0


def test_a_stuck_file_and_a_deadly_one_cost_themselves_alone_and_are_tried_again(
    corpus: Corpus, manifest: Manifest, content: Content, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = corpus(150, notes=20)
    causes = tmp_path / "causes"
    causes.mkdir()
    (causes / "010.mid.cause").write_text("hang")
    (causes / "070.mid.cause").write_text("die")
    (causes / "071.mid.cause").write_text("die")
    (causes / "140.mid.cause").write_text("raise")
    kind = Fragile(folder=str(causes))
    assert run(source, tmp_path / "data", kind, time_limit=2.0, jobs=2) == 1
    said = capfd.readouterr().err
    reasons = {name: line["reason"] for name, line in manifest(tmp_path / "data").items() if "reason" in line}
    assert reasons == {"010.mid": "timeout", "070.mid": "crashed", "071.mid": "crashed", "140.mid": "error"}
    assert "010.mid: timeout" in said and "Traceback" not in said

    for cause in causes.iterdir():
        if cause.read_text() != "raise":
            cause.unlink()
    assert run(source, tmp_path / "data", kind) == 1
    assert run(source, tmp_path / "whole", kind) == 1
    assert content(tmp_path / "data") == content(tmp_path / "whole")
    assert not (tmp_path / "data" / ".build").exists()


def test_workers_that_never_begin_end_the_build(tmp_path: Path) -> None:
    class Unpicklable(OctupleSpec):
        pass

    Unpicklable.__module__, Unpicklable.__qualname__ = "test_workers", "Fragile.Nothing"
    Fragile.Nothing = Unpicklable  # type: ignore[attr-defined]  # known here, but not to the process that is spawned
    tasks = [FileTask(0, 0, "a.mid", "a.mid", b"", 0)]
    try:
        with pytest.raises(DatasetError, match="before they have read anything"):
            list(LocalExecutor(1, 5.0).run(tasks, WorkerConfig(Unpicklable(), (), False), tmp_path))
    finally:
        del Fragile.Nothing  # type: ignore[attr-defined]


def test_a_full_disk_is_one_sentence(
    corpus: Corpus, build: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("musicbert_plugin.data.indexed_dataset.copy_bytes", full)
    status, said = build(corpus(5), tmp_path / "data", "--split-ratios", EVEN)
    assert (status, said.count("\n")) == (2, 1)
    assert "No space left" in said
    assert not (tmp_path / "data" / "train.bin").exists()


def test_batches_are_bounded_in_files_and_bytes() -> None:
    small = [FileTask(number, 0, "", "", b"", 0) for number in range(130)]
    assert [len(batch) for batch in batches(small)] == [64, 64, 2]
    large = [FileTask(number, 0, "", "", bytes(3 << 20), 0) for number in range(5)]
    assert [len(batch) for batch in batches(large)] == [2, 2, 1]


def test_the_kind_says_what_it_reads() -> None:
    assert ".mid" in OctupleSpec().suffixes
    assert OctupleSpec().settings().keys() <= set(octuple.OctupleOptions.__dataclass_fields__)


def test_a_worker_hides_what_libraries_write_to_stderr_and_nothing_that_python_does() -> None:
    program = (
        "import os, sys; from preprocess.engine.workers import keep_stderr_from_libraries\n"
        "keep_stderr_from_libraries(); os.write(2, b'noise\\n'); print('told', file=sys.stderr)\n"
        "raise ValueError('why')"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert "noise" not in run.stderr and run.stderr.startswith("told\n") and "ValueError: why" in run.stderr
