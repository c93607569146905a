"""The machine and the versions that every benchmark reports with its result."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import musicbert_plugin


def environment(*packages: str) -> dict[str, dict[str, Any]]:
    """The machine, and the versions of the plugin, of Python and of the installed ones of ``packages``."""
    versions = {"musicbert_plugin": musicbert_plugin.__version__, "python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    machine = {"cpu": cpu_name(), "cores": os.cpu_count(), "system": platform.platform()}
    return {"machine": machine, "versions": versions}


def cpu_name() -> str:
    """The system's name of the processor."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
