"""``python -m musicbert_plugin``: print the folder to give to ``--user-dir``."""

from __future__ import annotations

from pathlib import Path

if __name__ == "__main__":
    print(Path(__file__).resolve().parent)
