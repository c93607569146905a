"""Speed of generation: ``python -m benchmarks.generation``.

The size ``std`` with random weights, float32, one thread, in CPU-seconds; prefixes of 64 words, with grammar and
sampling (top-k 15), as in ``fairseq-interactive``.  The same run measures a batch of 16, a recurrent step late in a
piece compared with an early one, and a pass over the whole sequence, which the original computes for each token.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from argparse import Namespace
from collections.abc import Callable

import torch

import musicbert_plugin
from benchmarks.environment import environment
from musicbert_plugin.codecs.attributes import command_ids
from musicbert_plugin.codecs.remi import WORDS, dictionary_words
from musicbert_plugin.codecs.requests import parse_request

LENGTHS = (128, 1024)
POSITIONS = (100, 5000)


def random_model(size: str) -> torch.nn.Module:
    """A model of this size, with random weights."""
    musicbert_plugin.register()
    from fairseq.data import Dictionary
    from fairseq.models import ARCH_CONFIG_REGISTRY

    from musicbert_plugin.models.linear_transformer_lm import LinearTransformerLM

    words = Dictionary()
    for word in dictionary_words():
        words.add_symbol(word)
    args = Namespace()
    ARCH_CONFIG_REGISTRY[f"linear_transformer_lm_{size}"](args)
    torch.manual_seed(1)
    return LinearTransformerLM.build_model(args, Namespace(source_dictionary=words, cfg=None)).eval()


def spent(function: Callable[[], object]) -> float:
    """CPU-seconds of a call."""
    begin = time.process_time()
    function()
    return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="std")
    parser.add_argument("--tokens", type=int, default=256, help="number of tokens per piece")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = random_model(options.size)
    from musicbert_plugin.generation.generator import ConditionalGenerator, Constraints
    from musicbert_plugin.generation.sampling import Search

    reread = {length: reread_seconds(model, length, options.rounds) for length in LENGTHS}
    free = Constraints(limited=False)  # so that the number of bars ends no row
    generator = ConditionalGenerator(model, words=WORDS, layout="bar-tempo", constraints=free)
    prefix = command_ids(parse_request("piano violin key=minor bars=16"))

    def write(rows: int) -> float:
        # With this minimum, no row ends early.
        search = Search(sampling=True, top_k=15, min_length=options.tokens, max_length=options.tokens)
        begin = time.process_time()
        pieces = generator.generate([prefix] * rows, search)
        seconds = time.process_time() - begin
        return sum(len(piece.ids) for candidates in pieces for piece in candidates) / seconds

    rates: dict[int, list[float]] = {1: [], 16: []}
    for _ in range(options.rounds):
        for rows, found in rates.items():
            found.append(write(rows))
    best = {rows: max(found) for rows, found in rates.items()}
    early, late = step_seconds(generator, POSITIONS)
    result = {
        "benchmark": "generation",
        "model": f"linear_transformer_lm_{options.size}",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "precision": "float32",
        "threads": torch.get_num_threads(),
        "tokens per CPU-second": {f"batch {rows}": round(rate, 1) for rows, rate in best.items()},
        "all rounds": {f"batch {rows}": [round(rate, 1) for rate in found] for rows, found in rates.items()},
        "batch 16 beside batch 1": round(best[16] / best[1], 2),
        "times faster than reading the whole sequence": {
            str(length): round(best[1] * seconds, 1) for length, seconds in reread.items()
        },
        f"cost of token {POSITIONS[1]} beside token {POSITIONS[0]}": round(late / early, 3),
        "CPU-seconds of one pass over": {str(length): round(seconds, 4) for length, seconds in reread.items()},
        **environment("torch", "numpy"),
    }
    print(json.dumps(result, indent=2))


def reread_seconds(model: torch.nn.Module, length: int, rounds: int) -> float:
    """CPU-seconds of a pass of the model over a sequence of this length."""
    tokens = torch.randint(4, 900, (1, length))
    tokens[0, min(64, length - 1)] = model.decoder.sep
    with torch.inference_mode():
        model(tokens)
        return min(spent(lambda: model(tokens)) for _ in range(rounds))


def step_seconds(generator, positions: tuple[int, int]) -> list[float]:
    """Median CPU-seconds of a recurrent step around each of these positions in a piece."""
    decoder = generator.generator.decoder
    token = torch.tensor([10])
    decoder.start([torch.tensor([2])], [0], max(positions) + 200)
    times = [spent(lambda: decoder.step(token)) for _ in range(max(positions) + 200)]
    return [statistics.median(times[position - 99 : position + 200]) for position in positions]


if __name__ == "__main__":
    main()
