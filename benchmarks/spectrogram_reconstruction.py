"""Training of a small model of spectrograms on a CPU: ``python -m benchmarks.spectrogram_reconstruction WHAT ...``.

``short FOLDER``
    ``musicoder_tiny`` on a folder of recordings, with whole files held out: frame masking with spans of 2 to 7 frames,
    batches of 8 x 200 frames, 400 updates, measured on spans of 2 to 6; and the same with the default mix of masks.
``overfit FOLDER``
    200 updates on the first 200 frames of one recording, with new masks in each, measured on other masks of the frames.
``long FOLDER``
    Spans of 10 to 43 frames, ``--updates`` updates; measured on spans of 10, 20 and 43 frames, with the learning curve.
    With ``--predict correction``, the model corrects the interpolation instead of predicting values; ``--also`` adds
    recordings to train on, which reduces overfitting to the few minutes of FOLDER.
``loader FOLDER``
    Share of the wall time of 100 steps that is spent waiting for the loader, after 20 steps that are not counted, with
    stored features and one loader process.

Errors are squared, in variances of a channel over the training data, on masked cells, with two baselines on the same
cells: the mean of the excerpt and linear interpolation.  ``--held-out`` gives the prefixes of held-out file names; the
default is for the recordings of the development.  All steps use the commands of the plugin, in ``--work``.  Prints one
line of JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.environment import environment

ROOT = Path(__file__).resolve().parent.parent
HELD_OUT = (
    "synctb_chopin_",
    "sonicpi_arovane_",
    "essentia_flamenco",
    "librosa_brahms",
    "demucs_test",
    "audiocraft_electro_1",
    "encodec_test48k",
    "sonicpi_loop_tabla",
)
RECIPE = (
    "--task spectrogram_reconstruction --criterion spectrogram_reconstruction --arch musicoder_tiny --optimizer adam "
    "--weight-decay 0.01 --clip-norm 1.0 --lr-scheduler polynomial_decay --warmup-updates 50 --max-frames 200 "
    "--batch-size 8 --cpu --num-workers 0 --pictures 0 --no-epoch-checkpoints --log-format json --log-interval 100 "
    "--validate-interval 100000 --save-interval 100000"
).split()


def run(*command: object) -> str:
    """Output (stdout and stderr) of a Python command; exits if it fails."""
    words = [str(word) for word in command]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout + done.stderr


def build(recordings: Path, work: Path, held_out: list[str], also: list[Path]) -> Path:
    """A feature folder whose validation split is the held-out files; those of ``also`` are for training only."""
    folder, table = work / "features", work / "splits.csv"
    if not (folder / "config.json").is_file():
        work.mkdir(parents=True, exist_ok=True)
        files = sorted(path.name for path in recordings.iterdir() if path.suffix not in (".md", ".csv", ".txt"))
        with table.open("w", newline="") as file:
            rows = [(name, "valid" if name.startswith(tuple(held_out)) else "train") for name in files]
            if also:  # with several sources, names are prefixed with their source
                rows = [(f"{recordings}/{name}", split) for name, split in rows]
                rows += [(str(path), "train") for source in also for path in sorted(source.rglob("*.wav"))]
            csv.writer(file).writerows([("file", "split"), *rows])
        run("-m", "preprocess.audio", "build", recordings, *also, "--dest", folder, "--splits", table, "--jobs", 1)
    return folder


def train(folder: Path, save: Path, updates: int, *options: object) -> dict[str, Any]:
    """Train; returns CPU-seconds, and the learning curve if ``options`` enable validation."""
    shutil.rmtree(save, ignore_errors=True)  # fairseq would resume from its checkpoints
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = run(
        "-m", "fairseq_cli.train", folder, "--user-dir", ROOT / "musicbert_plugin", *RECIPE, "--save-dir", save,
        "--max-update", updates, "--total-num-update", updates, *options,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [json.loads(line[line.index("{") :]) for line in re.findall(r".*\{\"epoch.*\}", output)]
    curve = [
        {
            "update": int(line["valid_num_updates"]),
            **{key: float(line[f"valid_{key}"]) for key in ("mse", "mean", "interp")},
        }
        for line in lines
        if "valid_mse" in line
    ]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"updates": updates, "CPU-seconds": round(cpu, 1), "curve": curve}


def measure(folder: Path, save: Path, *masks: object) -> dict[str, Any]:
    """Errors on the validation split, per kind of target, rounded."""
    output = run(
        "-m", "musicbert_plugin.evaluate", "audio", "--path", save / "checkpoint_last.pt", folder, "--max-frames", 200,
        *masks,
    )  # fmt: skip
    values = json.loads(next(line for line in output.splitlines() if line.startswith("{")))
    return {
        region: {key: round(value, 4) for key, value in numbers.items()}
        for region, numbers in values.items()
        if isinstance(numbers, dict)
    }


def short(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    found = {}
    uniform = ("--masking", "frames", "--span-law", "uniform", "--min-span", 2, "--max-span", 6)
    for name, masks in (
        ("frames", ("--masking", "frames", "--span-p", 0.2, "--min-span", 2, "--max-span", 7)),
        ("mixed", ("--masking", "mixed")),
    ):
        save = options.work / f"short_{name}_{options.seed}"
        found[name] = train(folder, save, options.updates or 400, "--seed", options.seed, "--lr", options.lr, *masks)
        found[name]["spans 2-6"] = measure(folder, save, *uniform)["all"]
        found[name]["mix"] = measure(folder, save)
    return found


def long(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    updates = options.updates or 6000
    save = options.work / f"long_{options.predict}_{options.seed}"
    found = train(
        folder, save, updates, "--seed", options.seed, "--lr", options.lr, "--predict", options.predict,
        "--masking", "frames", "--span-p", 0.05, "--min-span", 10, "--max-span", 43,
        "--validate-interval-updates", max(updates // 12, 1),
    )  # fmt: skip
    for span in (10, 20, 43):
        share = max(0.15, (span + 1) / 200)  # so that a window of 200 frames has room for one span
        masks = ("--masking", "frames", "--span-law", "fixed", "--min-span", span, "--max-span", span)
        found[f"spans {span}"] = measure(folder, save, *masks, "--frame-share", share)["all"]
    return found


def overfit(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train on one excerpt, eight times in the training split, so that a batch has eight masks of it."""
    from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

    from musicbert_plugin.data.spectrogram_folder import SpectrogramFolder

    source = SpectrogramFolder(folder)
    clips = source.split("valid")
    clip = next(number for number, name in enumerate(clips.names) if options.clip in name)
    features = clips.read(clip, 0, 200).astype(np.float16)
    single = options.work / "one_clip"
    single.mkdir(exist_ok=True)
    words = torch.from_numpy(features.view(np.uint16).astype(np.int64).ravel())
    for split, copies in (("train", 8), ("valid", 1)):
        builder = MMapIndexedDatasetBuilder(str(single / f"{split}.bin"), dtype=np.uint16)
        for _ in range(copies):
            builder.add_item(words)
        builder.finalize(str(single / f"{split}.idx"))
        rows = [f"{clips.names[clip]},{len(features)}" for _ in range(copies)]
        (single / f"{split}.clips.csv").write_text("\n".join(["clip,frames", *rows]) + "\n")
    (single / "config.json").write_text(json.dumps(source.config))
    masks = ("--masking", "frames", "--span-p", 0.2, "--min-span", 2, "--max-span", 7)
    found = train(
        single, options.work / "overfit", options.updates or 200, "--seed", options.seed, "--lr", options.lr,
        "--dropout", 0, "--attention-dropout", 0, "--fill", "1,0,0", *masks,
    )  # fmt: skip
    uniform = ("--masking", "frames", "--span-law", "uniform", "--min-span", 2, "--max-span", 6)
    return found | {
        "clip": clips.names[clip],
        "spans 2-6": measure(single, options.work / "overfit", *uniform)["all"],
    }


def loader(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Share of the wall time of training steps that is spent waiting for the loader."""
    import musicbert_plugin

    musicbert_plugin.register()
    from fairseq.data import iterators

    from musicbert_plugin.criterions.spectrogram_reconstruction import SpectrogramReconstructionCriterion
    from musicbert_plugin.models.musicoder import MusiCoderConfig, MusiCoderModel
    from musicbert_plugin.tasks.spectrogram_reconstruction import (
        SpectrogramReconstructionTask,
        SpectrogramReconstructionTaskConfig,
    )

    task = SpectrogramReconstructionTask(
        SpectrogramReconstructionTaskConfig(data=str(folder), max_frames=200, seed=options.seed)
    )
    task.load_dataset("train")
    data = task.dataset("train")
    batches = data.batch_by_size(data.ordered_indices(), max_sentences=8)
    epochs = iterators.EpochBatchIterator(data, data.collater, batches, seed=options.seed, num_workers=1)
    torch.manual_seed(options.seed)
    cfg = MusiCoderConfig(encoder_layers=2, encoder_embed_dim=128, encoder_ffn_embed_dim=512, encoder_attention_heads=2)
    model = MusiCoderModel.build_model(cfg, task).train()
    criterion = SpectrogramReconstructionCriterion(task, "huber", 1.0, 1.0)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    waited, step, begin, last = 0.0, 0, 0.0, 20 + (options.updates or 100)
    while step < last:
        iterator = iter(epochs.next_epoch_itr())
        while step < last:
            before = time.perf_counter()
            batch = next(iterator, None)
            if batch is None:
                break
            after = time.perf_counter()
            if step == 20:
                begin, waited = before, 0.0
            waited += after - before
            loss, size, _ = criterion(model, batch)
            optimizer.zero_grad()
            (loss / size).backward()
            optimizer.step()
            step += 1
    whole = time.perf_counter() - begin
    return {
        "steps": last - 20,
        "seconds": round(whole, 2),
        "waiting": round(waited, 3),
        "share": round(waited / whole, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=["short", "overfit", "long", "loader"])
    parser.add_argument("folder", type=Path, help="folder of recordings")
    parser.add_argument("--work", type=Path, required=True, help="folder for features and checkpoints")
    parser.add_argument("--held-out", nargs="+", default=list(HELD_OUT), help="prefixes of held-out file names")
    parser.add_argument("--updates", type=int, help="default: short 400, overfit 200, long 6000, loader 100")
    parser.add_argument("--lr", type=float, default=0.002)
    parser.add_argument("--also", nargs="+", type=Path, default=[], help="folders of .wav for training only")
    parser.add_argument("--predict", default="values", choices=["values", "correction"], help="long only")
    parser.add_argument("--clip", default="librosa_brahms", help="held-out file to over-fit")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.work = options.work.resolve()
    also = [path.resolve() for path in options.also]
    folder = build(options.folder.resolve(), options.work, options.held_out, also)
    found = {"short": short, "overfit": overfit, "long": long, "loader": loader}[options.what](folder, options)
    result = {
        "benchmark": f"spectrogram reconstruction, {options.what}",
        "model": "musicoder_tiny",
        "seed": options.seed,
        "learning rate": options.lr,
        **found,
        "threads": torch.get_num_threads(),
        **environment("torch", "numpy"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
