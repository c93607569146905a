"""What every test may ask for: real music, the registered plugin, and fairseq's commands as functions.

fairseq is imported once per pytest process (three seconds), and its commands are called in it as functions.  They keep
state between calls (metrics, the best checkpoint, log handlers, hydra): :func:`fairseq_command` puts it back.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# No test asserts a time, and machines are shared: an example may take as long as it takes.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = ROOT / "musicbert_plugin"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-golden", action="store_true", help="write the files of tests/golden anew")
    parser.addoption("--all", action="store_true", help="every file and every length, where a sample is the default")


@pytest.fixture(scope="session")
def sample(request: pytest.FixtureRequest) -> Callable[[Sequence[Any], int], list[Any]]:
    """``sample(items, 8)``: every eighth item and the last one; all of them with ``--all``."""
    everything = request.config.getoption("--all")
    return lambda items, step: list(items) if everything else [*items[:-1:step], items[-1]]


@pytest.fixture(scope="session")
def music_data() -> Path:
    """The folder of real music named by MUSIC_DATA; tests that need it are skipped where the variable is not set."""
    folder = os.environ.get("MUSIC_DATA")
    if not folder:
        pytest.skip("MUSIC_DATA is not set")
    if not Path(folder).is_dir():
        pytest.fail(f"MUSIC_DATA={folder} is not a folder")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def registered() -> None:
    """fairseq with every task, model and criterion of the plugin; one torch thread, since test models are tiny."""
    import fairseq_cli.generate  # noqa: F401  (a command that runs is loaded before the plugin)
    import torch

    import musicbert_plugin

    torch.set_num_threads(1)
    musicbert_plugin.register()


@dataclass
class CommandRun:
    """What a fairseq command said: its log messages in order, among them JSON with ``--log-format json``."""

    value: Any = None
    messages: list[str] = field(default_factory=list)

    @property
    def log(self) -> str:
        return "\n".join(self.messages)

    @property
    def statistics(self) -> list[dict[str, Any]]:
        """One dict per progress line of ``--log-format json``; validation lines carry ``valid_loss`` and the like."""
        lines = []
        for message in self.messages:
            if message.startswith("{"):
                try:
                    lines.append(json.loads(message))
                except ValueError:  # the printed configuration also begins with a brace
                    continue
        return lines


class _Listener(logging.Handler):
    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.INFO)
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def fairseq_command(registered: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., CommandRun]]:
    """``fairseq_command("train", data, "--arch", ...)``: run ``fairseq-train`` with these arguments in this process.

    Arguments are turned into text; ``--user-dir musicbert_plugin`` (its full path) and, for commands that compute,
    ``--cpu --num-workers 0`` are added where they are not given (``hydra-train`` gets none of them).  Returns a
    :class:`CommandRun`.  A command that ends with a sentence raises SystemExit(2); the sentence is on stderr.
    """
    root = logging.getLogger()
    handlers, level, directory = list(root.handlers), root.level, os.getcwd()

    def run(command: str, *arguments: object) -> CommandRun:
        from fairseq import checkpoint_utils
        from fairseq.logging import metrics
        from fairseq_cli import train

        words = [str(argument) for argument in arguments]
        if not command.startswith("hydra"):
            if "--user-dir" not in words:
                words += ["--user-dir", str(PLUGIN)]
            if command not in ("preprocess", "score"):
                words += [] if "--cpu" in words else ["--cpu"]
                words += [] if "--num-workers" in words else ["--num-workers", "0"]
        module = importlib.import_module(f"fairseq_cli.{command.replace('-', '_')}")
        monkeypatch.setattr(sys, "argv", [f"fairseq-{command}", *words])

        metrics.reset()
        for function, attribute in ((checkpoint_utils.save_checkpoint, "best"), (train.should_stop_early, "best")):
            if hasattr(function, attribute):
                delattr(function, attribute)
        outcome = CommandRun()
        listener = _Listener(outcome.messages)
        listened = [logging.getLogger(name) for name in ("fairseq", "fairseq_cli", "musicbert_plugin")]
        for logger in listened:
            logger.addHandler(listener)
        root.setLevel(logging.INFO)
        try:
            outcome.value = module.cli_main()
        finally:
            for logger in listened:
                logger.removeHandler(listener)
            if command.startswith("hydra"):
                from hydra.core.global_hydra import GlobalHydra

                GlobalHydra.instance().clear()
            os.chdir(directory)
            root.handlers[:] = handlers
            root.setLevel(level)
        return outcome

    yield run


@pytest.fixture
def hydra_configuration(
    fairseq_command: Callable[..., CommandRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """``hydra_configuration("octuple_pretrain", "model=musicbert_tiny")``: with what fairseq-hydra-train would train.

    The command itself composes and completes the configuration, without ``hydra:`` and with all values resolved; only
    the training is left out.
    """
    import fairseq.distributed.utils as distributed_utils

    def configuration(name: str, *overrides: str) -> Any:
        found = []

        def call_main(cfg: Any, main: Callable[..., Any], **unused: Any) -> None:
            found.append((os.getcwd(), cfg))

        with monkeypatch.context() as patch:
            patch.setattr(distributed_utils, "call_main", call_main)
            fairseq_command(
                *("hydra-train", "--config-dir", PLUGIN / "config", "--config-name", name, *overrides),
                *(f"hydra.run.dir={tmp_path}", "hydra.output_subdir=null"),
            )
        ((folder, cfg),) = found
        assert folder == os.getcwd(), "save_dir is relative to the folder in which the command is given"
        return cfg

    return configuration


@pytest.fixture
def octuple_folder(registered: None, tmp_path: Path) -> Callable[..., Path]:
    """``octuple_folder(train=[300, 20], valid=[50])``: a dataset folder of random pieces with that many notes each.

    The container is written by fairseq itself; ``config`` replaces entries of config.json (None: no such file).
    """
    import numpy as np
    import torch
    from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

    from musicbert_plugin.codecs import octuple

    def make(name: str = "data", config: dict[str, Any] | None = {}, seed: int = 1, **splits: list[int]) -> Path:  # noqa: B006
        rng = np.random.default_rng(seed)
        folder = tmp_path / name
        folder.mkdir()
        (folder / "dict.txt").write_text(octuple.dictionary_text())
        entries = {"format": 1, "kind": "octuple", "windows": "drawn", "dictionary_sha256": octuple.DICTIONARY_SHA256}
        if config is not None:
            (folder / "config.json").write_text(json.dumps(entries | config))
        for split, lengths in splits.items():
            builder = MMapIndexedDatasetBuilder(str(folder / f"{split}.bin"), dtype=np.uint16)
            for notes in lengths:
                # About eight notes to a bar, three instruments; the last three fields hardly vary, as in music.
                sizes = [max(notes // 8, 1), 64, 3, 128, 16, 4, 2, 2]
                piece = rng.integers(0, np.minimum(sizes, octuple.FIELD_SIZES), (notes, 8))
                piece = piece[np.lexsort(piece.T[::-1])]
                builder.add_item(torch.from_numpy(octuple.frame(piece).astype(np.int64)))
            builder.finalize(str(folder / f"{split}.idx"))
        return folder

    return make


@pytest.fixture
def labelled_folder(registered: None, tmp_path: Path) -> Callable[..., Path]:
    """``labelled_folder(train=[30, 9], valid=[12])``: a folder of labelled pieces with that many notes each.

    The notes of a piece are high or low (column ``register``), and their velocity says so too; column ``tags`` has
    ``even`` and ``long``, column ``mean`` the mean pitch (empty for every seventh piece), ``w`` a weight.  Each note
    has the label ``voice`` (``upper``, ``lower``, every fifth unlabelled).  With ``folds``, pieces 0 and 1, 2 and 3,
    ... are a group, and the groups lie in folds 0, 1, ..., 0, ...; with ``parts``, two items in a row are a piece.
    """
    import numpy as np

    from musicbert_plugin.codecs import octuple
    from musicbert_plugin.data import labelled_octuples as sidecars
    from musicbert_plugin.data.indexed_dataset import IndexedDatasetWriter

    def make(name: str = "labelled", folds: int = 0, parts: bool = False, seed: int = 1, **splits: list[int]) -> Path:
        rng = np.random.default_rng(seed)
        folder = tmp_path / name
        folder.mkdir()
        (folder / "dict.txt").write_text(octuple.dictionary_text())
        entries = {"format": 1, "kind": "octuple", "windows": "drawn", "dictionary_sha256": octuple.DICTIONARY_SHA256}
        entries["note_labels"] = {"voice": ["lower", "upper"]}
        (folder / "config.json").write_text(json.dumps(entries))
        for split, lengths in splits.items():
            items = IndexedDatasetWriter(folder / split, "uint16")
            voices = IndexedDatasetWriter(sidecars.note_labels_prefix(folder, split, "voice"), sidecars.NOTE_TYPE)
            lines = [",".join([*sidecars.FIXED_COLUMNS, "register", "tags", "mean", "w"])]
            for number, notes in enumerate(lengths):
                high = number % 2
                sizes = [max(notes // 8, 1), 64, 3, 24, 16, 4, 2, 2]
                piece = rng.integers(0, np.minimum(sizes, octuple.FIELD_SIZES), (notes, 8))
                piece[:, 3] += 40 + 30 * high
                piece[:, 5] += 20 * high
                piece = piece[np.lexsort(piece.T[::-1])]
                items.add(octuple.frame(piece))
                voice = 1 + (piece[:, 3] % 12 >= 6)
                voice[4::5] = 0
                voices.add(voice)
                tags = "/".join(tag for tag, holds in (("even", not high), ("long", notes > 20)) if holds) or "/"
                mean = "" if number % 7 == 6 else f"{piece[:, 3].mean():.3f}"
                fold = (number // 2) % folds if folds else ""
                file = f"{number // (1 + parts)}.mid"
                lines.append(
                    f"{file},{number},{notes},{file},g{number // 2},{fold},{'low high'.split()[high]},{tags},{mean},"
                )
                lines[-1] += "2" if number == 0 else ""
            items.close()
            voices.close()
            sidecars.labels_path(folder, split).write_text("\n".join([*lines, ""]))
        return folder

    return make


@pytest.fixture
def spectrogram_folder(registered: None, tmp_path: Path) -> Callable[..., Path]:
    """``spectrogram_folder(train=[300, 20], valid=[50])``: a feature folder of smooth noise with that many frames each.

    The container is written by fairseq itself.  ``labels`` maps columns to a function of the clip's features, [T, F],
    that gives a cell; ``features`` is their number, all of them mel bands.
    """
    import csv

    import numpy as np
    import torch
    from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

    def make(
        name: str = "features",
        features: int = 8,
        seed: int = 1,
        labels: dict[str, Callable[..., str]] | None = None,
        config: dict[str, Any] | None = None,
        **splits: list[int],
    ) -> Path:
        rng = np.random.default_rng(seed)
        folder = tmp_path / name
        folder.mkdir()
        labels = labels or {}
        stored: dict[str, list[Any]] = {}
        for split, lengths in splits.items():
            clips = []
            for frames in lengths:
                walk = rng.normal(size=(frames, features)).cumsum(0) * 0.5 + 3 * rng.normal()
                clips.append((walk - 4).astype(np.float16))
            stored[split] = clips
            builder = MMapIndexedDatasetBuilder(str(folder / f"{split}.bin"), dtype=np.uint16)
            for clip in clips:
                builder.add_item(torch.from_numpy(clip.view(np.uint16).astype(np.int64).ravel()))
            builder.finalize(str(folder / f"{split}.idx"))
            with (folder / f"{split}.clips.csv").open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["clip", "frames", *labels])
                for number, clip in enumerate(clips):
                    row = [cell(clip.astype(np.float64)) for cell in labels.values()]
                    writer.writerow([f"{split}/{number}.wav", len(clip), *row])
        train = np.concatenate(stored["train"]).astype(np.float64)
        entries = {
            "format": 1,
            "kind": "spectrogram",
            "front_end": {"name": f"logmel{features}", "sample_rate": 8000, "n_fft": 256, "hop": 128, "window": "hann"}
            | {"n_mels": features, "stack": False, "normalisation": "none", "tuning": 0.0},
            "feature_names": [f"mel {band}" for band in range(features)],
            "blocks": {"mel": [0, features]},
            "frequencies": np.linspace(100, 4000, features).tolist(),
            "frame_rate": 62.5,
            "mean": train.mean(0).tolist(),
            "std": train.std(0).tolist(),
        }
        (folder / "config.json").write_text(json.dumps(entries | (config or {})))
        return folder

    return make
