"""Devices of torch, checked before a model is loaded."""

from __future__ import annotations

from typing import Any

import torch

from musicbert_plugin.errors import OptionError
from musicbert_plugin.parsing import shortened


def checked_device(device: Any, name: str = "device") -> torch.device:
    """A device that this machine has.

    Parameters
    ----------
    device : str or torch.device
    name : str
        How the sentence calls it.

    Raises
    ------
    OptionError
        There is no such device, or it is none.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError, ValueError, AssertionError):
        raise OptionError(f"{name} is {shortened(device)}, but cpu, cuda or cuda:N is accepted.") from None
    if found.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not 0 <= (found.index or 0) < count:  # torch reads a number above 127 as a negative one
            has = f"{count} CUDA GPU{'' if count == 1 else 's'}, from cuda:0 on" if count else "no CUDA GPU; take cpu"
            raise OptionError(f"{name} is {device}, but torch finds {has}.")
    elif found.type != "cpu":
        try:
            torch.zeros(1, device=found).cpu()
        except Exception as error:  # each kind of device has errors of its own
            reason = " ".join(str(error).split())[:200].rstrip(".")
            raise OptionError(f"{name} is {found}, which cannot be used here ({reason}); take cpu.") from None
    return found
