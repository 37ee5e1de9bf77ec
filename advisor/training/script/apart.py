"""Steps in which the ranks of a script exchange nothing, each at its own pace."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed import fsdp

from advisor.training.device_clock import synchronise
from advisor.training.observer import Observer, Step
from advisor.training.script.word import WordObserver

#: The fewest that are timed.
_LEAST_APART = 3


class Apart(Observer):
    """Has such steps run, and times them.

    `words` say when that is, and when it is over; the steps take `least_s` at least. `step_s` is
    that of such a step on this rank; None before they are over.
    """

    def __init__(
        self,
        device: torch.device,
        words: WordObserver,
        exchange: Callable[[bool], None],
        least_s: float,
    ) -> None:
        self._device, self._words, self._exchange = device, words, exchange
        self._least_s = least_s
        self._began_s, self._steps = 0.0, -1
        self._is_on = False
        self.step_s: float | None = None

    def list_times(self) -> tuple[float, ...]:
        """Return the seconds of a step, where they are known."""
        return () if self.step_s is None else (self.step_s,)

    def begin(self) -> None:
        """Exchange nothing in the steps that come."""
        self._is_on = True
        self._exchange(False)
        self._words.word = self._words.word._replace(is_apart=True)

    def lead(self) -> bool:
        """Count such a step; return False, and say so, once there were enough."""
        if not self._count():
            return True
        self._words.word = self._words.word._replace(is_apart=False)
        self._conclude()
        return False

    def after_step(self, step: Step) -> bool:  # noqa: ARG002
        """Do as the first rank says; return False once the steps are over."""
        is_wanted = self._words.word.is_apart
        if self._is_on:
            self._count()
            if not is_wanted:
                self._conclude()
                return False
        elif is_wanted:
            self._is_on = True
            self._exchange(False)
        return True

    def _count(self) -> bool:
        """Count a step, the first of which only begins; return whether there were enough."""
        self._steps += 1
        if self._steps == 0:
            synchronise(self._device)
            self._began_s = time.perf_counter()
        taken_s = time.perf_counter() - self._began_s
        return self._steps >= _LEAST_APART and taken_s >= self._least_s

    def _conclude(self) -> None:
        synchronise(self._device)
        self.step_s = (time.perf_counter() - self._began_s) / max(1, self._steps)


def watch_exchange() -> Callable[[bool], None]:
    """Note what the script wraps from here on; return what switches its exchange on or off."""
    wrapped: list[Any] = []
    original_init, original_shard = nn.parallel.DistributedDataParallel.__init__, fsdp.fully_shard

    def init(module: Any, *args: Any, **kwargs: Any) -> None:
        original_init(module, *args, **kwargs)
        wrapped.append(module)

    def shard(module: Any, *args: Any, **kwargs: Any) -> Any:
        sharded = original_shard(module, *args, **kwargs)
        wrapped.append(sharded)
        return sharded

    def exchange(is_on: bool) -> None:
        for module in wrapped:
            if isinstance(module, nn.parallel.DistributedDataParallel):
                module.require_backward_grad_sync = is_on
                module.require_forward_param_sync = is_on
            else:
                module.set_requires_gradient_sync(is_on)

    if distributed.is_available():
        nn.parallel.DistributedDataParallel.__init__ = init  # type: ignore[method-assign,assignment]
        fsdp.fully_shard = shard
    return exchange
