"""Commands that measure: ``python -m musicbert_plugin.evaluate TASK --path CKPT DATA``, one file per task.

The frame is in ``__main__``: every task file offers ``add_arguments(parser)`` and ``evaluate(options) -> Report``; the
frame prints the report as one line of JSON on stdout and as tables on stderr, and turns errors into one sentence and
exit status 2 (1 if some inputs failed and the others were measured).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Report:
    """What a task measured: plain values for JSON, and tables (title, header, rows) for people."""

    values: dict[str, Any]
    tables: list[tuple[str, list[str], list[list[str]]]] = field(default_factory=list)
    failed: bool = False
    """Whether some inputs could not be read, so that the command ends with status 1."""
