"""``python -m musicbert_plugin``: print the folder to give to ``--user-dir``."""

from __future__ import annotations

from pathlib import Path

from musicbert_plugin.commands import DONE, run_command, write_line


def main(arguments: list[str]) -> int:
    """Print the folder; returns the status."""
    write_line(str(Path(__file__).resolve().parent))
    return DONE


if __name__ == "__main__":
    run_command(main)
