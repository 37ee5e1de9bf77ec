"""Which module is at work: by its calls in the forward pass, by autograd's order in the backward.

Every node of the autograd graph carries a number that rises as the forward pass makes them, so
noting that number where a module is entered and left tells each node's module, without hooks on
gradients, which would hold memory of their own.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


class ModuleStack:
    """Knows the module in whose call, or in whose part of the backward pass, we are.

    An index is the place of its dotted name in `names`, the model itself first; -1 is none.
    """

    def __init__(self, model: nn.Module | None) -> None:
        named = dict(model.named_modules()) if model is not None else {}
        self.names = tuple(named)
        self._index = {id(module): index for index, module in enumerate(named.values())}
        self._owner: dict[int, int] = {}
        for index, module in enumerate(named.values()):
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                self._owner.setdefault(id(tensor), index)
        self._calls = [-1]  # no module's, and within it those that are at work
        self.begin_step()

    def begin_step(self) -> None:
        """Forget the nodes of the step before."""
        self._numbers: list[int] = []
        self._modules: list[int] = []
        self._last = -1

    def find_present(self, node: Any) -> int:
        """Return the index of the module at work; `node` is the autograd node that runs, if any."""
        if len(self._calls) > 1 or node is None:
            return self._calls[-1]
        if (variable := getattr(node, "variable", None)) is not None:
            return self._owner.get(id(variable), self._last)
        if (number := number_of(node)) is not None:
            position = bisect_right(self._numbers, number) - 1
            self._last = self._modules[position] if position >= 0 else -1
        return self._last

    def find_owner(self, parameter: torch.Tensor) -> int:
        """Return the index of the first module that has this parameter."""
        return self._owner.get(id(parameter), -1)

    def enter(self, module: nn.Module, _inputs: Sequence[Any]) -> None:
        """Note that a module's call begins: a global hook."""
        self._calls.append(self._index.get(id(module), self._calls[-1]))
        self._note_number()

    def leave(self, _module: nn.Module, _inputs: Sequence[Any], _output: Any) -> None:
        """Note that it ends."""
        if len(self._calls) > 1:
            self._calls.pop()
            self._note_number()

    def _note_number(self) -> None:
        self._numbers.append(torch.autograd._get_sequence_nr())  # type: ignore[attr-defined]  # noqa: SLF001
        self._modules.append(self._calls[-1])


def number_of(node: Any) -> int | None:
    """Return the number of an autograd node in the order of the forward pass, None without one."""
    try:
        return int(node._sequence_nr())  # noqa: SLF001
    except (AttributeError, RuntimeError):  # the node of a custom function need not have one
        return None
