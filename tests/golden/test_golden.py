"""Small datasets and trainings come out as they did when the files beside this one were written.

``digests.json`` holds the sha256 of every file of one small dataset of each kind; ``losses.json`` the first 20 losses
of a seeded tiny training of each task (float32, one thread); ``audio.npz`` spectrograms, which are compared to within
the last of their 16 bits, since Fourier transforms of different processors round differently.

A change that is meant to change them says so in its message and writes them anew:
``python -m pytest tests/golden --record-golden``.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from musicbert_plugin.codecs.score import DRUMS, Score
from tests.reference.midi_writer import symusic_bytes

HERE = Path(__file__).resolve().parent
UPDATES = 20
TRAINING = f"""--max-update {UPDATES} --lr 0.003 --optimizer adam --adam-betas (0.9,0.98) --clip-norm 1.0 --seed 7
    --lr-scheduler fixed --no-save --disable-validation --required-batch-size-multiple 1""".split()
TASKS = """
instrument: {type: single}
tempo: {type: regression}
"""


def piece(seed: int) -> Score:
    """Two melodic tracks and drums on a grid of sixteenths, with changes of tempo and time signature."""
    random = np.random.default_rng(seed)
    notes = int(random.integers(80, 200))
    onset = np.sort(random.integers(0, 4 * notes, notes)) * 120
    track = random.integers(0, 3, notes)
    return Score.of(
        480,
        onset,
        onset + random.integers(1, 12, notes) * 60,
        random.integers(40, 84, notes),
        random.integers(1, 128, notes),
        np.array([0, 40, DRUMS])[track],
        track,
        tempi=[(0, 90.0 + seed), (1920 * 4, 120.0 + seed)],
        meters=[(0, 3, 4), (1440 * 3, 4, 4)] if seed % 2 else [(0, 4, 4)],
    )


def sound(seed: int) -> np.ndarray:
    """Two seconds of decaying tones at 8 kHz."""
    random = np.random.default_rng(seed)
    time = np.arange(16000) / 8000
    tones = [
        np.where(time >= start, np.exp(-3 * (time - start)) * np.sin(2 * np.pi * pitch * time), 0)
        for start, pitch in zip(random.uniform(0, 1.8, 12), 110 * 2 ** random.uniform(0, 4, 12), strict=True)
    ]
    return 0.1 * np.sum(tones, axis=0)


def run(module: str, *words: object) -> None:
    with contextlib.redirect_stderr(io.StringIO()) as said:
        status = importlib.import_module(f"preprocess.{module}").main([str(word) for word in words])
    assert status == 0, said.getvalue()


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """One built folder of each kind, by name."""
    folder = tmp_path_factory.mktemp("golden")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("midi").mkdir()
        Path("sounds").mkdir()
        rows = ["file,instrument,tempo"]
        for seed in range(16):
            (Path("midi") / f"{seed:02}.mid").write_bytes(symusic_bytes(piece(seed)))
            soundfile.write(f"sounds/{seed:02}.wav", sound(seed), 8000, subtype="PCM_16")
            rows.append(f"{seed:02}.wav,{'flute' if seed % 2 else 'violin'},{90 + seed}")
        Path("labels.csv").write_text("\n".join(rows) + "\n")
        ratios = ("--split-ratios", "6,1,1", "--seed", 3)
        run("octuple", "build", "midi", "--dest", "octuple", *ratios)
        run("remi", "build", "midi", "--dest", "remi", *ratios)
        run("remi", "pairs", "midi", "--dest", "pairs", *ratios)
        run(
            "audio", "build", "sounds", "--dest", "audio", "--labels", "labels.csv", "--front-end", "logmel128", *ratios
        )
        Path("audio/tasks.yaml").write_text(f"tasks:{TASKS}".replace("\n", "\n  ").rstrip() + "\n")
        yield {name: folder / name for name in ("octuple", "remi", "pairs", "audio")}


def digests(folders: dict[str, Path]) -> dict[str, str]:
    """The sha256 of every file but spectrograms; of config.json without the versions and moments that it tells."""
    found = {}
    for name, folder in folders.items():
        for path in sorted(folder.iterdir()):
            data = path.read_bytes()
            if path.name == "config.json":
                config = json.loads(data)
                for key in ("versions", "mean", "std", "moments"):
                    config.pop(key, None)
                data = json.dumps(config).encode()
            elif name == "audio" and path.suffix == ".bin":
                continue
            found[f"{name}/{path.name}"] = hashlib.sha256(data).hexdigest()
    return found


def losses(name: str, folders: dict[str, Path], command: Callable[..., Any]) -> list[float]:
    """The loss of each of the first updates, as the criterion reports it, per sample size."""
    from fairseq.trainer import Trainer

    small = "--encoder-embed-dim 32 --encoder-ffn-embed-dim 64 --batch-size 2"
    lm = "--task attribute_to_music --criterion cross_entropy --arch linear_transformer_lm_debug --batch-size 2"
    sound = f"--arch musicoder_tiny {small}"
    octuple = "--task octuple_masked_lm --criterion octuple_masked_lm --arch musicbert_tiny --tokens-per-sample 512"
    restored = "--task spectrogram_reconstruction --criterion spectrogram_reconstruction --pictures 0"
    runs = {
        "octuple_masked_lm": ("octuple", f"{octuple} --encoder-layers 1 {small}"),
        "attribute_to_music": ("remi", f"{lm} --ends all"),  # as in folders without marks
        "marked_ends": ("remi", lm),
        "pairs": ("pairs", f"{lm} --position-mode all --loss-on all"),
        "spectrogram_reconstruction": ("audio", f"{restored} {sound}"),
        "audio_multitask": ("audio", f"--task audio_multitask --criterion audio_multitask {sound}"),
    }
    folder, options = runs[name]
    found: list[float] = []
    original = Trainer._reduce_and_log_stats

    def reduce(self: Any, logging_outputs: Any, sample_size: Any, *more: Any, **options: Any) -> Any:
        found.append(float(sum(float(output["loss"]) for output in logging_outputs)) / float(sample_size))
        return original(self, logging_outputs, sample_size, *more, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_reduce_and_log_stats", reduce)
        command("train", folders[folder], *options.split(), *TRAINING)
    return found


def compare_or_record(name: str, found: Any, record: bool) -> Any:
    path = HERE / name
    if record:
        path.write_text(json.dumps(found, indent=1) + "\n")
    return json.loads(path.read_text())


NAMES = (
    "octuple_masked_lm",
    "attribute_to_music",
    "marked_ends",
    "pairs",
    "spectrogram_reconstruction",
    "audio_multitask",
)


def test_files_of_datasets_are_those_of_the_recording(datasets: dict[str, Path], request: Any) -> None:
    found = digests(datasets)
    assert found == compare_or_record("digests.json", found, request.config.getoption("--record-golden"))


def test_spectrograms_are_those_of_the_recording(datasets: dict[str, Path], request: Any) -> None:
    found = {split: np.fromfile(datasets["audio"] / f"{split}.bin", np.float16) for split in ("train", "valid", "test")}
    if request.config.getoption("--record-golden"):
        np.savez_compressed(HERE / "audio.npz", **{split: values[:6400] for split, values in found.items()})
    with np.load(HERE / "audio.npz") as recorded:
        for split, values in found.items():
            np.testing.assert_allclose(values[:6400], recorded[split], rtol=2**-10, atol=2**-10)


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_those_of_the_recording(
    name: str, datasets: dict[str, Path], fairseq_command: Callable[..., Any], request: Any
) -> None:
    found = losses(name, datasets, fairseq_command)
    assert len(found) == UPDATES
    path = HERE / "losses.json"
    recorded = json.loads(path.read_text()) if path.is_file() else {}
    if request.config.getoption("--record-golden"):
        recorded[name] = found
        path.write_text(json.dumps(recorded, indent=1) + "\n")
    np.testing.assert_allclose(found, recorded[name], rtol=1e-5)
