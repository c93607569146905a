"""Sums that batches and workers log, as means."""

from __future__ import annotations

from typing import Any

from fairseq.logging import metrics


def total(logging_outputs: list[dict[str, Any]], key: str) -> float:
    """Sum of a key over batches and workers, 0 where it is absent."""
    return float(sum(output.get(key, 0) for output in logging_outputs))


def log_mean(name: str, value: float, count: float, priority: int = 10, digits: int = 4) -> None:
    """Log value / count, weighted by the count; a mean over nothing is 0 with weight 0, which changes no average."""
    metrics.log_scalar(name, value / (count or 1), count, priority, round=digits)
