"""Low-rank adapters: matrices W of a frozen encoder become W + s B A, of which only A and B are trained.

Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR), section 4.1: A is [r, in], B is [out, r]
and begins at zero, s = alpha / r.  They are parametrizations of PyTorch, so that whatever reads ``module.weight`` gets
the adapted matrix; merged, the model has the parameters of one without adapters.

In a state dict, an adapted ``NAME.weight`` is ``NAME.parametrizations.weight.original`` and
``NAME.parametrizations.weight.0.{down,up,scale}``.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn.utils import parametrize

PARTS = ("down", "up", "scale")
_ADAPTED = ".parametrizations.weight."


class LowRank(nn.Module):
    """W to W + s B A.

    Parameters
    ----------
    weight : Tensor [out, in]
    rank : int
        r
    alpha : float
        r s
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        self.down = nn.Parameter(weight.new_empty(rank, weight.shape[1]))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
        self.register_buffer("scale", weight.new_tensor(alpha / rank))
        nn.init.normal_(self.down, std=weight.shape[1] ** -0.5)

    def forward(self, weight: Tensor) -> Tensor:
        """[out, in] to [out, in]."""
        return weight + self.scale * (self.up @ self.down)


def add_adapters(modules: Iterable[nn.Module], rank: int, alpha: float) -> None:
    """Freeze modules, and give an adapter to every linear map in them."""
    for module in modules:
        module.requires_grad_(False)
        for linear in [inner for inner in module.modules() if isinstance(inner, nn.Linear)]:
            parametrize.register_parametrization(linear, "weight", LowRank(linear.weight, rank, alpha))


def merge_adapters(model: nn.Module) -> None:
    """Make ordinary matrices of all adapted ones; no output changes."""
    for module in [inner for inner in model.modules() if parametrize.is_parametrized(inner, "weight")]:
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def fit_adapters(state_dict: dict[str, Tensor], prefix: str, own: dict[str, Tensor]) -> None:
    """Fit a file with other adapters, or without any, to a model; in place.

    Adapters of the file that the model lacks, or has with another rank, are merged into its matrices; adapters that the
    file lacks keep their present values.

    Parameters
    ----------
    state_dict : dict
        Of the file; names begin with ``prefix``.
    prefix : str
    own : dict
        The model's.
    """
    for name in [key.partition(_ADAPTED)[0] for key in state_dict if key.endswith(f"{_ADAPTED}original")]:
        down, up, scale = (f"{name}{_ADAPTED}0.{part}" for part in PARTS)
        theirs = own.get(down.removeprefix(prefix))
        if theirs is None or theirs.shape != state_dict[down].shape:
            merged = state_dict.pop(f"{name}{_ADAPTED}original")
            factor, left, right = (state_dict.pop(key).float() for key in (scale, up, down))
            state_dict[f"{name}.weight"] = (merged.float() + factor * (left @ right)).to(merged.dtype)
    for key in [key for key in own if _ADAPTED in key]:
        name, _, part = key.partition(_ADAPTED)
        if part == "original" and f"{prefix}{name}.weight" in state_dict:
            state_dict[prefix + key] = state_dict.pop(f"{prefix}{name}.weight")
        elif part != "original":
            state_dict.setdefault(prefix + key, own[key])
