"""Linear probe for the composer of rendered piano pieces: ``python -m benchmarks.composer_probe MIDI``.

``MIDI`` is a folder with ``pretrain.csv`` and ``composer_pianist8.csv`` (columns ``file``, ``split``, ``label``,
``group``) and the archives ``pretrain.zip`` and ``composer.zip`` that hold their files.  The first ``--seconds`` of
each piece are rendered with fluidsynth.  ``musicoder_tiny`` is pre-trained on ``--pieces`` of the ``train`` rows of the
former with the default mix of masks, and a linear probe over 5 folds of groups predicts the composer from each layer,
and from the baselines, raw log-mels and an encoder with fresh weights.  All are pooled alike (mean and standard
deviation over time), with 95 % intervals from a paired bootstrap over groups.  Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environment import environment
from benchmarks.spectrogram_reconstruction import run, train

SOUND_FONT = Path("/usr/share/sounds/sf2/TimGM6mb.sf2")


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def render(archive: Path, names: list[str], folder: Path, seconds: float, sound_font: Path) -> list[str]:
    """Render the beginnings of MIDI files of an archive as wav, 22,050 Hz; returns the names of those that succeed."""
    import symusic

    folder.mkdir(parents=True, exist_ok=True)
    done = []
    with zipfile.ZipFile(archive) as files, tempfile.TemporaryDirectory() as scratch:
        for number, name in enumerate(names):
            target = folder / f"{number:04d}.wav"
            if not target.is_file():
                midi, partial = Path(scratch) / "piece.mid", Path(scratch) / "piece.wav"
                try:
                    score = symusic.Score.from_midi(files.read(name)).to("second").clip(0, seconds, clip_end=True)
                    score.to("tick").dump_midi(str(midi))
                except (RuntimeError, ValueError, KeyError) as error:
                    print(f"{name}: {error}", file=sys.stderr)
                    continue
                command = [
                    "fluidsynth",
                    "-ni",
                    "-q",
                    "-R",
                    "0",
                    "-C",
                    "0",
                    "-r",
                    "22050",
                    "-F",
                    partial,
                    sound_font,
                    midi,
                ]
                subprocess.run([str(word) for word in command], check=True, capture_output=True)
                partial.replace(target)
            done.append(name)
    return done


def write_table(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def prepare(options: argparse.Namespace) -> tuple[Path, Path, dict[str, int]]:
    """Feature folders for pre-training and for the probe, and the number of pieces of each."""
    counts = {}
    folders = []
    tables = {
        "pretrain": [row for row in rows_of(options.midi / "pretrain.csv") if row["split"] == "train"],
        "composer": rows_of(options.midi / "composer_pianist8.csv"),
    }
    order = np.random.default_rng(options.seed).permutation(len(tables["pretrain"]))[: options.pieces]
    tables["pretrain"] = [tables["pretrain"][row] for row in order.tolist()]
    if options.clips:
        drawn = np.random.default_rng(options.seed).permutation(len(tables["composer"]))[: options.clips]
        tables["composer"] = [tables["composer"][row] for row in np.sort(drawn).tolist()]
    for kind, rows in tables.items():
        audio, folder = options.work / f"{kind}_audio", options.work / f"{kind}_features"
        folders.append(folder)
        rendered = set(
            render(
                options.midi / f"{kind}.zip", [row["file"] for row in rows], audio, options.seconds, options.sound_font
            )
        )
        counts[kind] = len(rendered)
        if (folder / "config.json").is_file():
            continue
        kept = [(number, row) for number, row in enumerate(rows) if row["file"] in rendered]
        # Every twentieth piece is for validation; the probe has its own folds over all splits.
        splits = [(f"{n:04d}.wav", "valid" if index % 20 == 0 else "train") for index, (n, _) in enumerate(kept)]
        write_table(options.work / f"{kind}_splits.csv", ["file", "split"], [list(row) for row in splits])
        labels = [[f"{n:04d}.wav", row["label"], row["group"]] for n, row in kept]
        write_table(options.work / f"{kind}_labels.csv", ["file", "composer", "piece"], labels)
        run(
            "-m", "preprocess.audio", "build", audio, "--dest", folder, "--jobs", 1, "--duplicates", "keep",
            "--splits", options.work / f"{kind}_splits.csv", "--labels", options.work / f"{kind}_labels.csv",
        )  # fmt: skip
    return folders[0], folders[1], counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("midi", type=Path, help="folder of tables and archives")
    parser.add_argument("--work", type=Path, required=True, help="folder for renderings, features and checkpoints")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each excerpt")
    parser.add_argument("--pieces", type=int, default=150, help="number of pieces to pre-train on")
    parser.add_argument("--clips", type=int, default=0, help="number of excerpts to probe (default: all)")
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--lr", type=float, default=0.002)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sound-font", type=Path, default=SOUND_FONT)
    options = parser.parse_args()
    options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    pretrain, composer, counts = prepare(options)
    save = options.work / "pretrained"
    trained = train(
        pretrain, save, options.updates, "--seed", options.seed, "--lr", options.lr, "--masking", "mixed",
        "--validate-interval-updates", max(options.updates // 5, 1),
    )  # fmt: skip
    output = run(
        "-m", "musicbert_plugin.evaluate", "probe", "--path", save / "checkpoint_last.pt", composer,
        "--label", "composer", "--group", "piece", "--folds", 5, "--seed", options.seed,
    )  # fmt: skip
    result = {
        "benchmark": "composer probe",
        "model": "musicoder_tiny",
        "seconds of each piece": options.seconds,
        "pieces": counts,
        "pretraining": trained,
        **{
            key: value
            for key, value in json.loads(next(line for line in output.splitlines() if line.startswith("{"))).items()
            if key not in ("path", "data")
        },
        **environment("torch", "numpy"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
