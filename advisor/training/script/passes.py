"""What a backward pass of the script shows: of its loss, and of parameters that have moved."""

import math
from collections import deque
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from advisor.errors import WorkloadError

#: Operations that are looked at behind a loss.
_MOST_NODES = 64
#: As torch saves `reduction="mean"`.
_MEAN = 1
#: Parameters that are looked at: what moves some moves all.
_MOST_PARAMETERS = 8
#: Moves without any optimizer after which there will be none; SAM's first step has one.
_MOST_MOVES = 4


def is_plain_mean(loss: Tensor) -> bool:
    """Return whether the operations behind a loss show a mean, and no sum before it."""
    waiting, has_mean = deque[Any]([loss.grad_fn]), False
    for _ in range(_MOST_NODES):
        if not waiting:
            break
        node = waiting.popleft()
        name = type(node).__name__
        reduction = getattr(node, "_saved_reduction", None)
        if name.startswith("Sum") or reduction not in {None, _MEAN}:
            return False
        if name.startswith("Mean") or reduction == _MEAN:
            has_mean = True
        elif node is not None:
            waiting.extend(following for following, _ in node.next_functions)
    return has_mean


class Movement:
    """Whether parameters move where no optimizer steps, by their norms after each backward pass.

    `is_perturbed`: they moved between two passes of a step, as SAM's do.
    """

    def __init__(self) -> None:
        self.is_perturbed = False
        self._norms: list[float] = []
        self._moves = 0

    def see_pass(self, optimizer: Optimizer | None, passes: int, model: nn.Module | None) -> None:
        """See the passes of a step so far; WorkloadError where no optimizer moves parameters."""
        groups = [] if optimizer is None else optimizer.param_groups
        if optimizer is None and model is not None:
            groups = [{"params": model.parameters()}]
        parameters = (each for group in groups for each in group["params"])
        before, self._norms = self._norms, [*map(_measure, islice(parameters, _MOST_PARAMETERS))]
        pairs = zip(before, self._norms, strict=False)
        has_moved = any(one != other and not math.isnan(one) for one, other in pairs)
        if optimizer is not None:
            self.is_perturbed |= has_moved and passes > 1
            return
        self._moves += has_moved
        if self._moves == _MOST_MOVES:
            raise WorkloadError(
                "the script moves its parameters without an optimizer of torch.optim, so its steps "
                "cannot be seen",
                next_step="Let torch.optim.SGD or another one move them.",
            )


def _measure(parameter: Tensor) -> float:
    local = getattr(parameter, "to_local", None)  # of a sharded one, this rank's part
    values = parameter.detach() if local is None else local().detach()
    return float(torch.linalg.vector_norm(values, dtype=torch.float64))
