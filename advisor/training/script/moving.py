"""What a step of the script is given for the step alone: other rates, or no gradients."""

from typing import Any

from torch import Tensor
from torch.optim import Optimizer


class MovedRates:
    """Multiplies the rates of all groups for one step."""

    def __init__(self) -> None:
        self._rates: list[Any] = []

    def move(self, optimizer: Optimizer, factor: float) -> None:
        """Multiply them."""
        if factor == 1.0:
            return
        self._rates = [group.get("lr") for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, self._rates, strict=True):
            if rate is not None:
                group["lr"] = rate * factor

    def put_back(self, optimizer: Optimizer) -> None:
        """Have them be the script's own again."""
        for group, rate in zip(optimizer.param_groups, self._rates, strict=False):
            if rate is not None:
                group["lr"] = rate
        self._rates = []


class TakenGradients:
    """Takes gradients away: without them a step leaves everything as it is.

    An optimizer that is not torch's own may expect a gradient of each parameter: it gets none of
    these either.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._emptied: list[tuple[dict[str, Any], list[Tensor]]] = []

    def keep(self, optimizer: Optimizer) -> None:
        """Remember them."""
        parameters = (each for group in optimizer.param_groups for each in group["params"])
        self._kept = [(each, each.grad) for each in parameters if each.grad is not None]

    def take(self, optimizer: Optimizer) -> None:
        """Leave the optimizer's parameters without gradients."""
        self.keep(optimizer)
        for parameter, _ in self._kept:
            parameter.grad = None
        if not type(optimizer).__module__.startswith("torch.optim"):
            self._emptied = [(group, group["params"]) for group in optimizer.param_groups]
            for group, _ in self._emptied:
                group["params"] = []

    def put_back(self) -> None:
        """Have them where they were, for whatever the script does with them."""
        for group, parameters in self._emptied:
            group["params"] = parameters
        self._emptied = []
        for parameter, gradient in self._kept:
            parameter.grad = gradient
        self._kept = []
