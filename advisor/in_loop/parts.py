"""The gradients of a step's micro-batches, each before it is added up, exchanged or clipped."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Variable
from torch.distributed.tensor import DTensor

from advisor.in_loop.exchange import Exchange

#: Relative difference of two squared norms of the same gradient, by other operations.
_SAME_FRACTION = 1e-6


class Parts(NamedTuple):
    """Squared norms of one step, as the loss and its scale make them."""

    #: K, those that added up.
    micro_batches: int
    #: Σ|h_k|² over what each of them added.
    sqnorm: float
    #: |Σ h_k|², after the ranks' exchange where there is one.
    total_sqnorm: float


class Stopwatch:
    """Adds up the seconds of the blocks that it is entered for."""

    def __init__(self) -> None:
        self.seconds = self._began_s = 0.0

    def __enter__(self) -> None:
        self._began_s = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began_s


class PartNorms:
    """Sees what each backward pass of one step adds to the parameters' gradients.

    Where each rank has a part of the exchanged gradient alone, each norm is of that part, and what
    a pass adds is told from a copy of what was there.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], exchange: Exchange, clock: Stopwatch
    ) -> None:
        self._parameters, self._exchange, self._clock = parameters, exchange, clock
        self._is_called = self._is_torn = self._is_awaited = False
        #: Of each micro-batch, by the parameter's place: what came, and what is there with it.
        self._parts: list[dict[int, tuple[Tensor, Tensor]]] = [{}]
        self._exchanged: list[Tensor] = []
        self._shards: dict[int, Tensor] = {}

    def watch(self, watching: ExitStack) -> None:
        """See the gradients until `watching` is closed."""
        watching.callback(self._shards.clear)
        for place, parameter in enumerate(self._parameters):
            watched: Any = parameter  # torch's hooks are not typed
            if self._exchange.is_sharded:
                see = functools.partial(self._see_shard, place)
                handle = watched.register_post_accumulate_grad_hook(see)
            else:
                handle = watched.register_hook(functools.partial(self._see, place))
            watching.callback(handle.remove)

    @property
    def is_part_begun(self) -> bool:
        """Whether a gradient has come since the last part began."""
        return bool(self._parts[-1])

    @property
    def micro_batches(self) -> int:
        """How many there were so far."""
        return sum(bool(part) for part in self._parts)

    def begin_part(self) -> None:
        """Have the gradients that come be those of a micro-batch that the model is called for."""
        self._is_called = True
        if self._parts[-1]:
            self._parts.append({})

    def finish(self) -> Parts | None:
        """Return what was seen; None where gradients of one micro-batch came in several passes."""
        parts = [part for part in self._parts if part]
        if self._is_torn or not parts:
            return None
        device = self._parameters[0].device
        flat = [norm for part in parts for pair in part.values() for norm in pair]
        values = torch.stack([n.to(device) for n in flat + self._exchanged]).tolist()
        squares = iter([value**2 for value in values])
        latest, own = dict[int, float](), list[float]()
        for part in parts:
            pairs = {place: (next(squares), next(squares)) for place in part}
            again = [pairs[place] for place in latest.keys() & pairs.keys()]
            if again and all(math.isclose(*pair, rel_tol=_SAME_FRACTION) for pair in again):
                latest.clear()  # these came on gradients that were cleared
                own.clear()
            own.append(math.fsum(came for came, _ in pairs.values()))
            latest |= {place: there for place, (_, there) in pairs.items()}
        total = math.fsum(squares) if self._exchanged else math.fsum(latest.values())
        return Parts(len(own), math.fsum(own), total)

    def _see(self, place: int, gradient: Tensor) -> None:
        with self._clock:
            if not self._is_called and place in self._parts[-1]:  # each pass has one of its own
                self._parts.append({})
            part, there = self._parts[-1], self._parameters[place].grad
            if self._exchange.replicates and not self._is_awaited:
                self._is_awaited = True
                # Then for what others call after a backward pass, as the exchange's end is.
                _call_after_backward(lambda: _call_after_backward(self._see_exchanged))
            self._is_torn |= place in part
            came = gradient.detach()
            norm = take_norm(came)
            part[place] = (norm, norm if there is None else take_norm(there.detach() + came))

    def _see_shard(self, place: int, parameter: Tensor) -> None:
        with self._clock, torch.no_grad():
            there, before = parameter.grad, self._shards.get(place)
            assert there is not None
            there = there.to_local() if isinstance(there, DTensor) else there
            norm = take_norm(there)
            self._parts[-1][place] = (norm if before is None else take_norm(there - before), norm)
            self._shards[place] = there.clone()

    def _see_exchanged(self) -> None:
        with self._clock:
            gradients = [p.grad for p in self._parameters]
            self._exchanged = [take_norm(each) for each in gradients if each is not None]
            self._is_awaited = False


def _call_after_backward(function: Callable[[], None]) -> None:
    Variable._execution_engine.queue_callback(function)  # noqa: SLF001 - as DDP and FSDP do


def take_norm(values: Tensor) -> Tensor:
    """Return the norm, in single precision at least."""
    if values.is_sparse:
        values = values.coalesce().values()
    dtype = torch.float32 if values.dtype.itemsize < 4 else None
    norm: Tensor = torch.linalg.vector_norm(values.detach(), dtype=dtype)
    return norm
