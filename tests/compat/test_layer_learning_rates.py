"""Learning rates by layer: a step is what an optimizer with groups of parameters makes, also in half precision."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from musicbert_plugin.errors import OptionError

pytestmark = pytest.mark.usefixtures("registered")


def linears() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(3)))


def loss_of(model: torch.nn.Module, step: int) -> torch.Tensor:
    return (model(torch.arange(6.0).view(2, 3) + step) ** 2).sum()


def fairseq_adam(parameters: list[Any]) -> Any:
    from fairseq import optim
    from fairseq.optim.adam import FairseqAdamConfig
    from omegaconf import OmegaConf

    cfg = OmegaConf.structured(FairseqAdamConfig)
    cfg._name, cfg.lr, cfg.weight_decay, cfg.tpu = "adam", [0.1], 0.2, False
    return optim.build_optimizer(cfg, parameters)


def test_steps_are_those_of_groups_with_their_own_rates() -> None:
    from musicbert_plugin.compat.layer_learning_rates import scaled_steps
    from musicbert_plugin.models.presets import learning_rate_factors

    model, expected = linears(), linears()
    factors = learning_rate_factors([model[1]], [model[0]], 0.5)
    assert [factors.get(layer.weight, 1) for layer in model] == [0.25, 0.5, 1]
    optimizer = fairseq_adam(list(model.parameters()))
    groups = [fairseq_adam(list(layer.parameters())) for layer in expected]
    for group, rate in zip(groups, (0.025, 0.05, 0.1), strict=True):
        group.set_lr(rate)
    for step in range(4):
        for net, optimizers in ((model, [optimizer]), (expected, groups)):
            net.zero_grad()
            loss_of(net, step).backward()
            with scaled_steps(optimizer, factors if net is model else {}):
                for one in optimizers:
                    one.step()
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("flat", [False, True])
def test_copies_in_float32_are_what_is_scaled(flat: bool) -> None:
    from fairseq.optim.fp16_optimizer import FP16Optimizer

    from musicbert_plugin.compat.layer_learning_rates import scaled_steps

    model = linears().bfloat16()
    parameters = list(model.parameters())
    masters: Any = FP16Optimizer.build_fp32_params(SimpleNamespace(), parameters, flatten=False)
    if flat:
        masters = {None: torch.nn.Parameter(torch.cat([p.data.view(-1) for p in masters]))}
    optimizer = FP16Optimizer.__new__(FP16Optimizer)
    optimizer.fp16_params, optimizer.fp32_params = parameters, masters
    before = [p.detach().clone() for p in parameters]
    with scaled_steps(optimizer, {parameters[0]: 0.5, parameters[3]: 0.25}), torch.no_grad():
        for master in masters.values() if flat else masters:
            master += 8
    moved = [float((p - old).float().mean()) for p, old in zip(parameters, before, strict=True)]
    assert moved[0] == pytest.approx(4, abs=0.05) and moved[3] == pytest.approx(2, abs=0.05)
    assert {round(value) for number, value in enumerate(moved) if number not in (0, 3)} <= {0, 8}


def test_what_is_no_factor_and_joined_parameters_are_refused() -> None:
    from musicbert_plugin.compat.layer_learning_rates import scaled_steps
    from musicbert_plugin.models.presets import learning_rate_factors

    model = linears()
    for decay in (0.0, 1.5):
        with pytest.raises(OptionError, match="above 0 and of at most 1"):
            learning_rate_factors([model[0]], [], decay)
    optimizer = fairseq_adam([torch.nn.Parameter(torch.zeros(12))])
    with pytest.raises(OptionError, match="fully_sharded"), scaled_steps(optimizer, {model[0].weight: 0.5}):
        pass
