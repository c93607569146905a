"""Correlation of hidden units with features of the sound.

    python -m musicbert_plugin.evaluate correlate --path CKPT DATA --dest DIR

Pearson's correlation over the frames of each item, between every unit of every layer and every hand-made feature, is
averaged over the items of a split (``metrics.correlation``).  Features are level, brightness, spread, flatness and
change of the spectrum (from the log-mel bands, which must be in ln units), or with ``--against FOLDER`` those of
another feature folder of the same items and frames (``musicoder324`` for chroma and MFCC).

Printed are the closest units of each feature, those with the largest absolute correlation.  Written to ``--dest`` are
``correlation.npy``, float [layers + 1, D, features]; ``correlation.csv``, the closest units; and ``correlation.png``, a
heat map of the correlation of the closest unit for each layer and feature.  With hundreds of units, some correlate by
chance: ``--random`` also measures an encoder with fresh weights, as the baseline.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.errors import DatasetError, OptionError
from musicbert_plugin.evaluate import Report, check_at_least, check_not_empty
from musicbert_plugin.extras import require
from musicbert_plugin.files import atomic_path, match_names
from musicbert_plugin.metrics.correlation import MeanCorrelation, pearson
from musicbert_plugin.plots.heat_map import draw_heat_map

if TYPE_CHECKING:
    from musicbert_plugin.data.spectrogram_folder import Spectrograms
    from musicbert_plugin.hub import MusiCoderHub

DESCRIPTORS = ("level", "brightness", "spread", "flatness", "change", "low band", "middle band", "high band")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help="feature folder")
    parser.add_argument("--path", required=True, help="checkpoint (.pt)")
    parser.add_argument("--gen-subset", default="valid", help="split to measure on (default: valid)")
    parser.add_argument("--against", help="feature folder of the same items with hand-made features")
    parser.add_argument("--max-clips", type=int, default=0, help="number of items, spread over the split (0: all)")
    parser.add_argument("--top", type=int, default=3, help="number of units to show for each feature")
    parser.add_argument("--random", action="store_true", help="also measure an encoder with fresh weights")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dest", type=Path, required=True, help="folder for the table and the heat map")


def descriptors(log_mel: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Hand-made features of an excerpt.

    Parameters
    ----------
    log_mel : float [T, M]
        Log-mel bands in ln units, ascending.

    Returns
    -------
    float64 [T, 8]
        Level (mean over bands), brightness (centre of mass of power over bands), spread (standard deviation around it),
        flatness (mean of logs minus log of mean), change (mean rise since the last frame), and the levels of the lower,
        middle and upper third of the bands.
    """
    x = np.asarray(log_mel, dtype=np.float64)
    power = np.exp(x - x.max(axis=1, keepdims=True))
    weight = power / power.sum(axis=1, keepdims=True)
    band = np.arange(x.shape[1])
    centre = weight @ band
    spread = np.sqrt((weight * (band - centre[:, None]) ** 2).sum(axis=1))
    flatness = x.mean(axis=1) - x.max(axis=1) - np.log(power.mean(axis=1))
    change = np.maximum(np.diff(x, axis=0, prepend=x[:1]), 0).mean(axis=1)
    thirds = [part.mean(axis=1) for part in np.array_split(x, 3, axis=1)]
    return np.stack([x.mean(axis=1), centre, spread, flatness, change, *thirds], axis=1)


def evaluate(options: argparse.Namespace) -> Report:
    from musicbert_plugin.data.spectrogram_folder import SpectrogramFolder
    from musicbert_plugin.hub import MusiCoderHub
    from musicbert_plugin.plots.spectrogram import mel_columns, unit_of

    require("matplotlib", "the heat map")
    if options.top < 1:
        raise OptionError(f"--top is {options.top}, but at least 1 unit is shown.")
    check_at_least(options, "max_clips", 0, "(all)")
    folder = SpectrogramFolder(options.data)
    clips = folder.split(options.gen_subset)
    check_not_empty(clips, options)
    hub = MusiCoderHub.from_pretrained(options.path)
    hub.check_front_end(folder)
    if not options.against and (unit := unit_of(folder.front_end, folder.feature_names)) != "dB":
        raise OptionError(
            f"{options.data} holds no log-mel bands in ln units (its unit: {unit}), which level and brightness need; "
            "name a folder of hand-made features with --against."
        )
    if options.against:
        others = SpectrogramFolder(options.against)
        hand_made, names = _paired(clips, others.split(options.gen_subset), options), others.feature_names
    else:
        columns = mel_columns(folder.feature_names)
        hand_made, names = [lambda x: descriptors(x[:, columns])] * len(clips), list(DESCRIPTORS)
    chosen = np.arange(len(clips))
    if 0 < options.max_clips < len(clips):
        chosen = np.unique(np.linspace(0, len(clips) - 1, options.max_clips).round().astype(int))

    hubs = {"trained": hub}
    if options.random:
        hubs["random"] = hub.untrained(options.seed)
    found = {name: _correlations(encoder, clips, hand_made, chosen) for name, encoder in hubs.items()}
    try:
        options.dest.mkdir(parents=True, exist_ok=True)
        with atomic_path(options.dest / "correlation.npy") as unfinished, unfinished.open("wb") as array:
            np.save(array, found["trained"])
        closest = _closest(found["trained"], names, options.top)
        with (
            atomic_path(options.dest / "correlation.csv") as unfinished,
            unfinished.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(["feature", "layer", "unit", "correlation"])
            writer.writerows(closest)
    except OSError as error:
        raise OptionError(f"{options.dest}: the tables cannot be written ({error.strerror}).") from None
    # The correlation of the closest unit for each layer and feature, [layers + 1, features].
    strength = {name: np.abs(np.nan_to_num(table)).max(axis=1) for name, table in found.items()}
    draw_heat_map(strength["trained"], names, options.dest / "correlation.png")
    values: dict[str, Any] = {
        "path": str(options.path),
        "data": options.data,
        "split": options.gen_subset,
        "clips": len(chosen),
        "closest": [
            {"feature": feature, "layer": layer, "unit": unit, "correlation": r} for feature, layer, unit, r in closest
        ],
        **{
            f"strength_{name}": dict(zip(names, table.max(axis=0).tolist(), strict=True))
            for name, table in strength.items()
        },
        "picture": str(options.dest / "correlation.png"),
    }
    rows = []
    for column, name in enumerate(names):
        best = [(layer, unit, r) for feature, layer, unit, r in closest if feature == name]
        row = [name, "  ".join(f"layer {layer} unit {unit}: {r:+.2f}" for layer, unit, r in best)]
        if "random" in strength:
            row.append(f"{strength['random'][:, column].max():.2f}")
        rows.append(row)
    header = ["feature", "closest units", *(["random encoder"] if "random" in strength else [])]
    return Report(values, [(f"{options.gen_subset}: {len(chosen)} items, mean correlation over frames", header, rows)])


def _paired(clips: Spectrograms, others: Spectrograms, options: argparse.Namespace) -> list[Any]:
    """For each item, a function that reads its features from the other folder."""
    number_of = {name: number for number, name in enumerate(others.names)}
    clip_of = {name: number_of[other] for name, other in match_names(clips.names, others.names).items()}
    functions = []
    for clip, name in enumerate(clips.names):
        if name not in clip_of or others.frames[clip_of[name]] != clips.frames[clip]:
            raise DatasetError(
                f"--against {options.against} has no item {name!r} of {clips.frames[clip]} frames in its split "
                f"{options.gen_subset!r}, but the same items and frames are needed (one rate and hop)."
            )
        functions.append(lambda _, number=clip_of[name]: others.read(number).astype(np.float64))
    return functions


def _correlations(
    hub: MusiCoderHub, clips: Spectrograms, hand_made: list[Any], chosen: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean correlations over items, float64 [layers + 1, D, features]."""
    r = hub.model.frame_stack
    layers = len(hub.model.encoder.layers) + 1
    means = [MeanCorrelation() for _ in range(layers)]
    for clip in chosen.tolist():
        features = clips.read(clip)
        states = hub.extract_all_layers(features)
        # A position of r frames is compared with the mean of their features.
        described = hand_made[clip](features)
        whole = len(features) // r * r
        described = described[:whole].reshape(-1, r, described.shape[1]).mean(axis=1)
        for mean, state in zip(means, states, strict=True):
            mean.add(pearson(state[: len(described)], described), len(described))
    if not means[0].clips:
        raise DatasetError("no item has four positions or more, so no correlation can be measured.")
    return np.stack([mean.value for mean in means])


def _closest(correlation: NDArray[np.float64], names: list[str], top: int) -> list[tuple[str, int, int, float]]:
    """For each feature, the units with the largest absolute correlation: (feature, layer, unit, correlation)."""
    layers, units, _ = correlation.shape
    found = []
    for column, name in enumerate(names):
        strength = np.nan_to_num(np.abs(correlation[:, :, column])).ravel()
        for index in np.argsort(-strength, kind="stable")[: min(top, layers * units)].tolist():
            layer, unit = divmod(index, units)
            found.append((name, layer, unit, float(correlation[layer, unit, column])))
    return found
