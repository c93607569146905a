"""Speed of linear attention compared with softmax attention: ``python -m benchmarks.linear_attention``.

Forward and backward pass of the attention of one layer, H heads of K dimensions (12 of 85 as in the published 200M
model), one row, float32, one thread, in CPU-seconds: the plugin's chunked form; PyTorch's causal SDPA; and the direct
form with a running sum of K x K matrices for every position (einsum and cumsum).  All are measured in turn; the result
is the smallest time of each, and ratios.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.environment import environment
from musicbert_plugin.modules.linear_attention import EPSILON, feature_map, linear_attention

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal softmax attention."""
    return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), is_causal=True).transpose(1, 2)


def running_sums(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Linear attention with the state of every position in memory."""
    q, k = feature_map(q), feature_map(k)
    states = torch.einsum("blhk,blhv->blhkv", k, v).cumsum(1)
    weight = torch.einsum("blhk,blhk->blh", q, k.cumsum(1)) + EPSILON
    return torch.einsum("blhk,blhkv->blhv", q, states) / weight.unsqueeze(-1)


def seconds(attention: Attention, length: int, heads: int, size: int) -> tuple[float, float]:
    """CPU-seconds of a forward and of a backward pass."""
    q, k, v = (torch.randn(1, length, heads, size).requires_grad_() for _ in range(3))
    gradient = torch.randn(1, length, heads, size)
    begin = time.process_time()
    out = attention(q, k, v)
    middle = time.process_time()
    torch.autograd.grad(out, (q, k, v), gradient)
    return middle - begin, time.process_time() - middle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--head-dim", type=int, default=85)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--longest-sums", type=int, default=1024, help="largest length for running sums (memory)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    results = {}
    for length in options.lengths:
        forms: dict[str, Attention] = {"linear": linear_attention, "sdpa": sdpa}
        if length <= options.longest_sums:
            forms["running sums"] = running_sums
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in forms}
        for turn in range(options.rounds + 1):
            for name, attention in forms.items():
                if name == "running sums" and turn > 2:
                    continue
                spent = seconds(attention, length, options.heads, options.head_dim)
                if turn:
                    times[name].append(spent)
        best = {name: min(pairs, key=sum) for name, pairs in times.items()}
        results[str(length)] = {
            "CPU-seconds (forward, backward)": {name: [round(x, 4) for x in pair] for name, pair in best.items()},
            "times faster than": {
                name: round(sum(pair) / sum(best["linear"]), 2) for name, pair in best.items() if name != "linear"
            },
        }
    result = {
        "benchmark": "linear attention",
        "heads x dimensions": [options.heads, options.head_dim],
        "precision": "float32",
        "threads": torch.get_num_threads(),
        "lengths": results,
        **environment("torch"),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
