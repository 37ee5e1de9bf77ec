"""What is trained, and the metric in which its optimizer steps."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from advisor.training.optimizer_facts import to_number

_HOST = torch.device("cpu")
#: Optimizer state that holds a running second moment, and whether it needs Adam's bias correction;
#: the first one that is there counts (AMSGrad keeps the largest beside the running one).
_SECOND_MOMENTS = {
    "max_exp_avg_sq": True,
    "exp_avg_sq": True,
    "square_avg": False,
    "sum": False,
}
#: Adadelta's: its metric has the size of its past updates in it as well.
_NOT_THE_METRIC = "acc_delta"


class Trained(Protocol):
    """What has gradients: a model with its optimizer, which need not move all parameters."""

    @property
    def optimizer(self) -> Optimizer: ...  # noqa: D102
    @property
    def device(self) -> torch.device: ...  # noqa: D102
    def list_parameters(self) -> list[nn.Parameter]: ...  # noqa: D102


#: sqrt(P) of a stretch of one parameter's elements, on a device.
Root = Callable[[slice, torch.device], Tensor]


def find_metric(
    parameters: Sequence[nn.Parameter], optimizer: Optimizer, device: torch.device = _HOST
) -> Tensor | None:
    """Return sqrt(P) of all parameters in one row; None before any v̂.

    P = 1/(sqrt(v̂)+ε) is the metric in which an Adam-like optimizer steps, from its own state. On
    the host in float64; on a GPU, where it takes room beside the training, in float32.
    """
    dtype = torch.float64 if device.type == "cpu" else torch.float32
    roots = find_roots(parameters, optimizer)
    if roots is None:
        return None
    rows = (
        torch.zeros(as_real(parameter).numel()) if root is None else root(slice(None), device)
        for parameter, root in zip(parameters, roots, strict=True)
    )
    return torch.cat([row.to(device, dtype) for row in rows])


def find_roots(
    parameters: Sequence[nn.Parameter], optimizer: Optimizer
) -> list[Root | None] | None:
    """Return how sqrt(P) of each parameter is had, None for one without v̂; None before any."""
    roots = [_find_root(parameter, optimizer) for parameter in parameters]
    return None if all(root is None for root in roots) else roots


def _find_root(parameter: nn.Parameter, optimizer: Optimizer) -> Root | None:
    """Return how sqrt(P) of one parameter is had; it is zero where v̂ is: 1/ε is no step size."""
    state = optimizer.state.get(parameter, {})
    name = next((key for key in _SECOND_MOMENTS if key in state), None)
    if name is None or _NOT_THE_METRIC in state:
        return None
    group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
    if not isinstance(state[name], Tensor) or state[name].shape != parameter.shape:
        return None
    correction = _find_correction(group, state) if _SECOND_MOMENTS[name] else 1.0
    if correction is None:
        return None
    eps = to_number(group.get("eps")) or 0.0

    def take(key: str, part: slice, device: torch.device) -> Tensor:
        return as_real(state[key]).reshape(-1)[part].to(device, torch.float64)

    def find(part: slice, device: torch.device) -> Tensor:
        moment = take(name, part, device) / correction
        if "grad_avg" in state:  # RMSprop that divides by the standard deviation
            moment = moment - take("grad_avg", part, device).square()
        root = (moment.clamp(min=0.0).sqrt() + eps).rsqrt()
        return torch.where(moment > 0.0, root, 0.0)

    return find


def _find_correction(group: dict[str, Any], state: dict[str, Any]) -> float | None:
    """Return 1 - beta2^steps; None where the second moment is not kept as Adam keeps it."""
    betas, steps = group.get("betas"), to_number(state.get("step"))
    if not isinstance(betas, list | tuple) or len(betas) != 2 or not steps:
        return None
    beta2 = to_number(betas[1])
    return None if beta2 is None or not 0.0 <= beta2 < 1.0 else 1.0 - beta2**steps


def as_real(values: Tensor) -> Tensor:
    """Return this rank's values without a graph: dense, complex ones as two real numbers each."""
    values = values.to_local() if isinstance(values, DTensor) else values
    dense = values.detach().to_dense() if values.layout is not torch.strided else values.detach()
    return torch.view_as_real(dense.resolve_conj()) if dense.is_complex() else dense


def trained_parameters(training: Trained) -> list[nn.Parameter]:
    """Return the parameters that the optimizer moves, tied ones once."""
    moved = {id(p) for group in training.optimizer.param_groups for p in group["params"]}
    return [p for p in training.list_parameters() if p.requires_grad and id(p) in moved]


def choose_dtype(parameters: Sequence[nn.Parameter]) -> torch.dtype:
    """Return the precision in which vectors of the parameters' size are kept."""
    is_double = any(parameter.dtype == torch.float64 for parameter in parameters)
    return torch.float64 if is_double else torch.float32
