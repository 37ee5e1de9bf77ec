"""Steps in which the ranks of a script exchange nothing, each at its own pace."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed import fsdp

from advisor.training.devices import synchronise
from advisor.training.observer import Observer, Step
from advisor.training.script.hooks import wrap
from advisor.training.script.stream import StepStream
from advisor.training.script.word import WordObserver

#: The fewest that are timed.
_LEAST_APART = 3


def count_apart(step_s: float, least_s: float) -> int:
    """Return how many steps take at least so long, by what one took."""
    return max(_LEAST_APART, math.ceil(least_s / step_s))


class Apart:
    """Has such steps run; `times_s` has that of one on this rank once they are over."""

    def __init__(self, device: torch.device, exchange: Callable[[bool], None]) -> None:
        self._device, self._exchange = device, exchange
        self._began_s, self._steps = 0.0, 0
        self.has_begun = False
        self.times_s: tuple[float, ...] = ()

    def begin(self, stream: StepStream, steps: int) -> None:
        """Exchange nothing in so many steps from the next on."""
        self.has_begun, self._steps = True, steps
        self._exchange(False)
        stream.time_steps(steps)
        synchronise(self._device)
        self._began_s = time.perf_counter()

    def conclude(self) -> None:
        """Take in that the last of them is done."""
        synchronise(self._device)
        self.times_s = ((time.perf_counter() - self._began_s) / self._steps,)


class Following(Observer):
    """Times on another rank the steps that the first one times, as it says; it hears that first."""

    def __init__(self, words: WordObserver, apart: Apart) -> None:
        self._words, self._apart = words, apart

    def attach(self, stream: StepStream) -> None:
        """Watch a stream."""
        self._stream = stream

    def after_step(self, step: Step) -> bool:
        """Begin with the steps of the first rank's word; return False once all are over."""
        if self._apart.has_begun:
            self._apart.conclude()
            return False
        word = self._words.word
        together = word.step - word.apart - step.number
        if together:
            self._stream.time_steps(together)
        else:
            self._apart.begin(self._stream, word.apart)
        return True


def watch_exchange() -> Callable[[bool], None]:
    """Note what the script wraps from here on; return what switches its exchange on or off."""
    wrapped: list[Any] = []

    def init(original: Any, module: Any, *args: Any, **kwargs: Any) -> None:
        original(module, *args, **kwargs)
        wrapped.append(module)

    def shard(original: Any, *args: Any, **kwargs: Any) -> Any:
        wrapped.append(original(*args, **kwargs))
        return wrapped[-1]

    def exchange(is_on: bool) -> None:
        for module in wrapped:
            if isinstance(module, nn.parallel.DistributedDataParallel):
                module.require_backward_grad_sync = is_on
                module.require_forward_param_sync = is_on
            else:
                module.set_requires_gradient_sync(is_on)

    if distributed.is_available():
        wrap(nn.parallel.DistributedDataParallel, "__init__", init)
        wrap(fsdp, "fully_shard", shard)
    return exchange
