"""Rows are the same in memory and in a file, and so are their moments in blocks and at once."""

from __future__ import annotations

import numpy as np
import pytest

from musicbert_plugin.audio import row_store
from musicbert_plugin.audio.row_store import RowStore, column_moments


@pytest.mark.parametrize("in_memory", [0, 500, 1 << 20])
def test_rows_come_back_as_they_were_added(in_memory):
    rows = np.random.default_rng(0).standard_normal((100, 7)).astype(np.float32)
    store = RowStore(7, np.float16, in_memory)
    for first in range(0, 100, 9):
        store.append(rows[first : first + 9])
    array = store.array()
    assert len(store) == 100 and isinstance(array, np.memmap) == (in_memory < 1000)
    del store
    np.testing.assert_array_equal(array, rows.astype(np.float16))
    assert memoryview(array.reshape(-1).view(np.uint16)[3:]).nbytes == 2 * 697
    assert RowStore(3).array().shape == (0, 3)


def test_moments_in_blocks_are_those_of_the_whole_to_the_bit(monkeypatch):
    monkeypatch.setattr(row_store, "BLOCK", 64)
    rows = (1000 + np.random.default_rng(1).standard_normal((1000, 5))).astype(np.float32)
    exact = rows.astype(np.float64)
    mean, squares = column_moments(rows)
    np.testing.assert_array_equal(mean, exact.mean(0))
    np.testing.assert_array_equal(np.sqrt(squares / 1000), exact.std(0))
