"""Learning rates by layer, for every optimizer of fairseq.

fairseq has one learning rate.  Its optimizers could be given groups of parameters, but ``--fp16`` and ``--bf16`` lay
all parameters end to end in one, and groups would change what a checkpoint holds.  A step of Adam, as of every
optimizer of fairseq whose step is proportional to the learning rate, with s times the rate is s times the step; so
after each step, the change of a parameter is multiplied by its factor.  This costs a copy of the parameters that have a
factor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from fairseq.optim.fp16_optimizer import FP16Optimizer
from torch import Tensor

from musicbert_plugin.errors import OptionError


def _masters(optimizer: Any) -> dict[Tensor, Tensor]:
    """From a model's parameter to what the optimizer changes: itself, or its (part of a) copy in float32."""
    if not isinstance(optimizer, FP16Optimizer):
        return {parameter: parameter for parameter in optimizer.params}
    if not optimizer.has_flat_params:
        return dict(zip(optimizer.fp16_params, optimizer.fp32_params, strict=True))
    found = {}
    for device, flat in optimizer.fp32_params.items():
        parameters = [p for p in optimizer.fp16_params if p.device.index in (device, None)]
        parts = flat.detach().split([p.numel() for p in parameters])
        found |= dict(zip(parameters, parts, strict=True))
    return found


@contextlib.contextmanager
def scaled_steps(optimizer: Any, factors: Mapping[Tensor, float]) -> Iterator[None]:
    """Multiply what an optimizer's step changes by a factor for each parameter.

    Parameters
    ----------
    optimizer : FairseqOptimizer
    factors : mapping of Parameter to float
        Parameters that are not in it have the factor 1.

    Raises
    ------
    OptionError
        The optimizer holds parameters in another form (fully sharded training).
    """
    if not factors:
        yield
        return
    masters = _masters(optimizer)
    changed = [(parameter, factor) for parameter, factor in factors.items() if factor != 1 and parameter.requires_grad]
    if any(parameter not in masters for parameter, _ in changed):
        raise OptionError(
            "--layer-lr-decay does not work with --ddp-backend fully_sharded, which joins the layers' parameters."
        )
    before = [(masters[parameter], factor, masters[parameter].detach().clone()) for parameter, factor in changed]
    yield
    with torch.no_grad():
        for master, factor, old in before:
            master.copy_(torch.lerp(old, master, factor))
    if before and isinstance(optimizer, FP16Optimizer):
        optimizer._sync_fp32_params_to_fp16()
