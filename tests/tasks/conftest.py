"""What the tests of several tasks share."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def loader_processes() -> Callable[[Any], list[int]]:
    """``loader_processes(task)``: how many loader processes are alive after each of three epochs with two of them, and
    after a fourth without any."""

    def count(task: Any) -> list[int]:
        task.load_dataset("train")
        before = set(multiprocessing.active_children())
        alive = []
        for epoch, processes in enumerate([2, 2, 2, 0], 1):
            batches = task.get_batch_iterator(
                task.dataset("train"), max_sentences=2, epoch=epoch, num_workers=processes, data_buffer_size=2
            ).next_epoch_itr()
            for _ in range(len(batches)):  # fairseq stops with the last batch
                next(batches)
            alive.append(len(set(multiprocessing.active_children()) - before))
        return alive

    return count
