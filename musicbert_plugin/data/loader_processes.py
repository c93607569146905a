"""Ending the loader processes (``--num-workers``) of a finished epoch, which fairseq leaves running.

A dataset that is drawn anew in every epoch gets new loader processes in every epoch.  fairseq stops reading an epoch
with its last batch, so the old processes are never told to stop.  They run until the garbage collector finds their
iterator (it is part of a reference cycle), and torch then waits five seconds for each of them: after some epochs,
training stops for a minute.
"""

from __future__ import annotations

from fairseq.data.iterators import EpochBatchIterator


def end_loader_processes(iterator: EpochBatchIterator | None) -> None:
    """End the loader processes that ``iterator`` has started, if any; it cannot be read from afterwards."""
    loader = getattr(iterator, "dataloader", None)
    # The loader keeps the iterator that owns its processes, because fairseq makes them persistent.
    running = getattr(loader, "_iterator", None)
    if running is not None and hasattr(running, "_shutdown_workers"):
        running._shutdown_workers()
        loader._iterator = None
