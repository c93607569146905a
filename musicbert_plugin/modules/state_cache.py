"""Pooled states of a frozen encoder, kept by window: each is computed once, whatever batches it comes in later."""

from __future__ import annotations

import torch
from torch import Tensor


class StateCache:
    """Vectors [D] by number; memory grows with the largest number."""

    def __init__(self) -> None:
        self._rows: Tensor | None = None
        self._known = torch.zeros(0, dtype=torch.bool)

    def get(self, number_P: Tensor) -> Tensor | None:
        """The vectors [P, D] of these numbers (int64 on the CPU), or None if one of them is not known."""
        if self._rows is None or int(number_P.max()) >= len(self._known) or not self._known[number_P].all():
            return None
        return self._rows[number_P.to(self._rows.device)]

    def put(self, number_P: Tensor, x_PD: Tensor) -> None:
        """Keep vectors."""
        needed = int(number_P.max()) + 1
        rows = x_PD.new_zeros(0, x_PD.shape[1]) if self._rows is None else self._rows
        if needed > len(rows):
            more = max(needed, 2 * len(rows)) - len(rows)
            rows = torch.cat([rows, rows.new_zeros(more, rows.shape[1])])
            self._known = torch.cat([self._known, torch.zeros(more, dtype=torch.bool)])
        rows[number_P.to(rows.device)] = x_PD.detach()
        self._rows, self._known[number_P] = rows, True
