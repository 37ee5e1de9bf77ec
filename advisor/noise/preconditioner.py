"""The metric in which an Adam-like optimizer steps: P = 1/(sqrt(v̂)+ε), from its own state."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from advisor.training.training import Training

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


def trained_parameters(training: Training) -> list[nn.Parameter]:
    """Return the parameters that the optimizer moves, tied ones once."""
    moved = {id(p) for group in training.optimizer.param_groups for p in group["params"]}
    return [p for p in training.model.parameters() if p.requires_grad and id(p) in moved]


def find_root(parameter: nn.Parameter, optimizer: Optimizer) -> Tensor | None:
    """Return sqrt(P) for every element of the parameter, on the host in float64.

    None before there is a v̂. It is zero where v̂ is: an element that never had a gradient has no
    step size yet, and 1/ε is none.
    """
    state = optimizer.state.get(parameter, {})
    name = next((key for key in _SECOND_MOMENTS if key in state), None)
    if name is None or _NOT_THE_METRIC in state:
        return None
    group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
    moment = _to_host(state[name])
    if _SECOND_MOMENTS[name]:
        moment = moment / (1 - group["betas"][1] ** float(state["step"]))
    if "grad_avg" in state:  # RMSprop that divides by the standard deviation
        moment = moment - _to_host(state["grad_avg"]).square()
    root = (moment.clamp(min=0.0).sqrt() + group.get("eps", 0.0)).rsqrt()
    return torch.where(moment > 0.0, root, 0.0)


def find_roots(parameters: list[nn.Parameter], optimizer: Optimizer) -> list[Tensor] | None:
    """Return sqrt(P) for each parameter, zero for one without v̂; None where none has one."""
    roots = [find_root(parameter, optimizer) for parameter in parameters]
    if all(root is None for root in roots):
        return None
    return [
        torch.zeros(parameter.shape, dtype=torch.float64) if root is None else root
        for parameter, root in zip(parameters, roots, strict=True)
    ]


def _to_host(moment: Tensor) -> Tensor:
    return (moment.to_dense() if moment.is_sparse else moment).detach().cpu().double()
