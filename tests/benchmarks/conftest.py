"""Benchmarks as functions: their arguments in, the JSON that they print out."""

import json
import sys

import pytest
import torch


@pytest.fixture
def run(registered, monkeypatch, capsys):
    """``run(module, *words)``: what ``python -m benchmarks.MODULE`` prints."""

    def run(module, *arguments):
        threads = torch.get_num_threads()
        monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
        try:
            module.main()
        finally:
            torch.set_num_threads(threads)
        return json.loads(capsys.readouterr().out)

    return run
