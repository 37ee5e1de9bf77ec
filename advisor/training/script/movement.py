"""Whether the script's parameters move where no optimizer steps, seen between backward passes."""

import math
from itertools import islice

import torch
from torch import Tensor, nn

from advisor.errors import WorkloadError
from advisor.training.script.stream import StepStream

#: Parameters that are looked at: what moves some moves all.
_MOST = 8
#: Moves without any optimizer after which there will be none; SAM's first step has one.
_MOST_MOVES = 4


class Movement:
    """Looks at the parameters after each backward pass, by their norms.

    `is_perturbed`: they moved between two passes of a step, as SAM's do.
    """

    def __init__(self) -> None:
        self.is_perturbed = False
        self._norms: list[float] = []
        self._moves = 0

    def see_pass(self, stream: StepStream, model: nn.Module | None) -> None:
        """See a backward pass; WorkloadError where no optimizer of torch's moves parameters."""
        optimizer = stream.optimizer
        groups = [] if optimizer is None else optimizer.param_groups
        if optimizer is None and model is not None:
            groups = [{"params": model.parameters()}]
        parameters = (each for group in groups for each in group["params"])
        norms = [_measure(each) for each in islice(parameters, _MOST)]
        has_moved = any(
            not _is_same(one, other) for one, other in zip(self._norms, norms, strict=False)
        )
        self._norms = norms
        if optimizer is not None:
            self.is_perturbed |= has_moved and stream.gathered_passes > 1
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


def _is_same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
