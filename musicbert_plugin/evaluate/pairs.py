"""Similarity of generated bars to the true ones: programs, pitches, rhythm, melody, bass and drums.

    python -m musicbert_plugin.evaluate pairs --path CKPT DATA          generate for the conditions of a split
    python -m musicbert_plugin.evaluate pairs --hyp FILE --ref FILE     two files of lines of music words
    python -m musicbert_plugin.evaluate pairs --hyp FILE [DATA]         output of fairseq-generate

With a checkpoint, the loss and perplexity of the true music are measured as well: those of ``fairseq-validate``, with
the checkpoint's ``--loss-on`` and ``--position-mode`` unless others are given (``task_options``).

Line n of one file is compared with line n of the other; in the output of ``fairseq-generate``, ``H-n`` with ``T-n``, or
with sample n of the split.  Bars are compared in their order (missing bars count as empty) with ``metrics.remi_bars``,
and averaged; the intervals are bootstraps over lines.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.codecs import remi
from musicbert_plugin.codecs.octuple import DEFAULT_METER
from musicbert_plugin.data.fairseq_output import read_lines
from musicbert_plugin.errors import OptionError
from musicbert_plugin.evaluate import Report, check_not_empty
from musicbert_plugin.evaluate.generated_music import add_search_arguments, compose, ids_reader, load_hub, seed_of
from musicbert_plugin.evaluate.task_options import Settled, add_task_options, settle
from musicbert_plugin.metrics.bootstrap import bootstrap_interval
from musicbert_plugin.metrics.remi_bars import average, compare

if TYPE_CHECKING:
    from musicbert_plugin.hub import MuseCocoHub

Ids = NDArray[np.int64]
TASK_OPTIONS = {"loss_on": str, "position_mode": str}
"""Options of the task ``attribute_to_music`` on which the loss depends."""
NO_BAR = np.zeros((0, 4), np.int64)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", nargs="?", help="dataset folder of preprocess.remi pairs")
    parser.add_argument("--path", help="checkpoint that generates the music")
    parser.add_argument("--hyp", type=Path, metavar="FILE", help="generated music, a line each, or fairseq's output")
    parser.add_argument("--ref", type=Path, metavar="FILE", help="true music, a line each")
    parser.add_argument("--gen-subset", default="test", help="split of DATA (default: test)")
    parser.add_argument("--limit", type=int, default=0, help="number of samples from the start of the split (0: all)")
    parser.add_argument("--draws", type=int, default=10_000, help="bootstrap resamples (default: 10,000)")
    add_search_arguments(parser)
    add_task_options(parser.add_argument_group("loss, with --path"), TASK_OPTIONS)


def evaluate(options: argparse.Namespace) -> Report:
    if bool(options.path) == bool(options.hyp):
        raise OptionError("Either --path CKPT or --hyp FILE is needed.")
    meter = remi.parse_meter(options.meter)
    own, tables = {}, []
    if options.path:
        pairs, settled, loss = _of_model(options)
        own = {"task_options": settled.values, "loss": loss, "perplexity": 2**loss}
        covers = "the condition and the music" if settled.values["loss_on"] == "all" else "the music"
        row = [f"fairseq-validate, over {covers}", f"{loss:.3f}", f"{2**loss:.2f}"]
        tables = [settled.table(), ("loss of the true music", ["", "bits per word", "perplexity"], [row])]
    else:
        pairs = _of_lines(options)
    values = own | measure(pairs, draws=options.draws, seed=seed_of(options), meter=meter)
    rows = [
        [name, *("-" if np.isnan(number) else f"{number:.4f}" for number in (metric["mean"], *metric["interval"]))]
        for name, metric in values["metrics"].items()
    ]
    title = f"{values['bars']} bars of {values['lines']} lines"
    return Report(values, [*tables, (title, ["metric", "mean", "from", "to"], rows)])


def measure(
    pairs: list[tuple[Ids, Ids]], *, draws: int = 10_000, seed: int = 1, meter: tuple[int, int] = DEFAULT_METER
) -> dict[str, Any]:
    """Metrics of pairs of generated and true music (int64 [T] each), averaged over bars.

    Parameters
    ----------
    pairs : list of (int64 [T], int64 [T])
    draws, seed : int
        Number of bootstrap resamples, and their seed.
    meter : (int, int)
        Time signature of bars without a time-signature token.

    Returns
    -------
    dict
        ``lines``, ``bars``, ``same_bars`` (share of lines with the true number of bars), ``without_repairs`` (share of
        lines that need no repair), and ``metrics``: from name to ``mean`` and 95 % ``interval``.
    """
    compared, of_line, same, whole = [], [], 0, 0
    for line, (output, target) in enumerate(pairs):
        first, second = bars_of(output), bars_of(target)
        same += len(first) == len(second)
        whole += not remi.decode_with_repairs(output, meter)[1]
        compared += [compare(*bars) for bars in itertools.zip_longest(first, second, fillvalue=NO_BAR)]
        of_line += [line] * max(len(first), len(second))
    if not compared:
        raise OptionError("There is no bar to compare: every line is empty.")
    metrics = {
        name: {
            "mean": mean,
            "interval": bootstrap_interval([bar[name] for bar in compared], groups=of_line, draws=draws, seed=seed),
        }
        for name, mean in average(compared).items()
    }
    return {
        "lines": len(pairs),
        "bars": len(compared),
        "same_bars": same / len(pairs),
        "without_repairs": whole / len(pairs),
        "metrics": metrics,
    }


def bars_of(ids: Ids) -> list[NDArray[np.int64]]:
    """The notes of every bar of ids (int64 [T]); the ids up to ``<sep>``, and special tokens, are ignored."""
    music = remi.music_of(ids)
    return remi.bar_notes(music[music > remi.UNK])


# ------------------------------------------------------------------------------------------------------------- sources


def _of_model(options: argparse.Namespace) -> tuple[list[tuple[Ids, Ids]], Settled, float]:
    """Music that a checkpoint generates from the conditions of a split, and the true music; and its loss, in bits."""
    from musicbert_plugin.tasks.attribute_to_music import AUTO, AttributeToMusicTaskConfig

    if not options.data or options.ref:
        raise OptionError("--path needs a dataset folder, and --ref is accepted with --hyp only.")
    samples, words = _split(options)
    hub = load_hub(options)
    if hub.words[4:] != words:
        raise OptionError(f"{options.path} and {options.data} have different dictionaries: the same is needed.")
    count = min(len(samples.sizes), options.limit or len(samples.sizes))
    # auto, of the checkpoint's task or given, is what the model has
    of_model = {"position_mode": hub.position_mode, "loss_on": str(hub.model.args.loss_on)}
    held = of_model | {name: value for name, value in hub.task_options.items() if value not in (None, AUTO)}
    for name in TASK_OPTIONS:
        if getattr(options, name) == AUTO:
            setattr(options, name, None)
    settled = settle(AttributeToMusicTaskConfig, held, options, TASK_OPTIONS, options.path)
    loss = _loss(hub, samples, range(count), settled.values, options.batch_size)
    conditions, references = zip(*(samples.sample(number, 0) for number in range(count)), strict=True)
    music = [ids for ids, _ in compose(hub, conditions, options)]
    return list(zip(music, references, strict=True)), settled, loss


def _loss(hub: MuseCocoHub, samples: Any, numbers: Sequence[int], values: dict[str, Any], rows: int) -> float:
    """Mean of -log2 p over the targets of some samples, as ``fairseq-validate`` has it."""
    import torch

    from musicbert_plugin.data.prefix_lm_dataset import PrefixLMDataset

    if rows < 1:
        raise OptionError(f"--batch-size {rows}: 1 or more is accepted.")
    dataset = PrefixLMDataset(samples, separator=hub.words.index("<sep>"), **values)
    device = next(hub.model.parameters()).device
    nats, count = 0.0, 0
    with torch.inference_mode():
        for first in range(0, len(numbers), rows):
            batch = dataset.collater([dataset[number] for number in numbers[first : first + rows]])
            logits = hub.model(**{name: tensor.to(device) for name, tensor in batch["net_input"].items()})[0]
            targets = batch["target"].to(device).flatten()
            nll = torch.nn.functional.cross_entropy(
                logits.float().flatten(0, 1), targets, ignore_index=remi.PAD, reduction="none"
            )
            nats += float(nll.double().sum())
            count += batch["ntokens"]
    return nats / count / float(np.log(2))


def _of_lines(options: argparse.Namespace) -> list[tuple[Ids, Ids]]:
    """Generated and true lines; the latter from ``--ref``, from the same file, or from a split."""
    generated = read_lines(options.hyp)
    if not generated.music:
        raise OptionError(f"{options.hyp} is empty; a line of music words per sample is needed.")
    read = ids_reader()
    references: dict[int, Ids]
    if options.ref:
        true = read_lines(options.ref)
        references = {number: read(line) for number, line in true.music}
        if len(generated.music) != len(true.music):
            raise OptionError(
                f"{options.hyp} has {len(generated.music)} lines, but {options.ref} has {len(true.music)}: each line "
                "needs its counterpart."
            )
    elif generated.references:
        references = {number: read(line) for number, line in generated.references.items()}
    elif options.data:
        samples, words = _split(options)
        read = ids_reader(("<s>", "<pad>", "</s>", "<unk>", *words))
        references = {number: samples.sample(number, 0)[1] for number in range(len(samples.sizes))}
    else:
        raise OptionError(f"{options.hyp} has no T- lines: --ref FILE or the dataset folder is needed.")
    missing = sorted({number for number, _ in generated.music} - set(references))
    if missing:
        raise OptionError(f"{options.hyp} has music for sample {missing[0]}, for which there is no reference.")
    return [(read(line), references[number]) for number, line in generated.music]


def _split(options: argparse.Namespace) -> tuple[Any, tuple[str, ...]]:
    """The samples of the split, and the words of the dictionary."""
    from musicbert_plugin.data.condition_pairs import ConditionPairs
    from musicbert_plugin.data.dataset_folder import check_remi_folder

    folder = check_remi_folder(options.data)
    if not folder.pairs(options.gen_subset):
        raise OptionError(f"{options.data} holds attributes, not pairs: evaluate attributes measures them.")
    samples = ConditionPairs(folder.path, options.gen_subset)
    check_not_empty(samples.sizes, options)
    return samples, folder.words
