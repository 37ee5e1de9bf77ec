"""The ranks that train one model together, and what they add up."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel


class Exchange:
    """Adds up what ranks saw, where they share a model by DDP or FSDP2; else there is one rank.

    Attributes:
        replicates: Whether each rank has the whole gradient before they exchange.
        is_sharded: Whether each rank has a part of the exchanged one alone.
        ranks: How many exchange.
        leads: Whether this is the first of them.
    """

    def __init__(self, model: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        found = [each for each in model.modules() if isinstance(each, DistributedDataParallel)]
        meshes = [each.device_mesh for each in parameters if isinstance(each, DTensor)]
        self.replicates, self.is_sharded = bool(found), bool(meshes)
        self._group: Any = None
        if found:
            self._group = found[0].process_group
        elif meshes and meshes[0].ndim == 1:  # of more dimensions some hold the same samples
            self._group = meshes[0].get_group()
        self.ranks = 1 if self._group is None else distributed.get_world_size(self._group)
        self.leads = not distributed.is_initialized() or distributed.get_rank() == 0
        self._device = parameters[0].device

    def begin_to_add(self, **values: float) -> Callable[[], dict[str, float]]:
        """Return what waits for the sums over the ranks, while these go on."""
        if self.ranks == 1:
            return lambda: values
        sums = torch.tensor([*values.values()], dtype=torch.float64).to(self._device)
        work = distributed.all_reduce(sums, group=self._group, async_op=True)

        def wait() -> dict[str, float]:
            work.wait()
            return dict(zip(values, sums.tolist(), strict=True))

        return wait

    def add_tensor(self, values: Tensor) -> Tensor:
        """Return the sum over the ranks of a tensor."""
        if self.ranks > 1:
            values = values.to(self._device)
            distributed.all_reduce(values, group=self._group)
        return values
