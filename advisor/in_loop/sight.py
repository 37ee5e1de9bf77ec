"""One step of a training, seen while it runs: which noise scale its gradients tell of."""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import nn

from advisor.in_loop.examples import ExampleNorms, Examples, is_normalisation
from advisor.in_loop.exchange import Exchange
from advisor.in_loop.parts import PartNorms, Parts, Stopwatch
from advisor.noise.data import Estimator, NoiseLogEntry
from advisor.training.script.sizes import find_tensor


class Seen(NamedTuple):
    """What a step told, the same on all ranks."""

    estimator: Estimator | None
    entry: NoiseLogEntry | None
    #: Why there is none.
    reason: str
    #: Means over the ranks: seconds for which the thread saw, by which the step took longer than
    #: one that is not seen, and of such a one.
    cost_s: float
    excess_s: float
    step_s: float


class StepSight:
    """Sees the micro-batches of a step, and in the normalisation layers their examples.

    Both at first; then the micro-batches alone where a step has two or more, of accumulation or of
    the ranks, else the examples.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Sequence[nn.Parameter],
        exchange: Exchange,
        *,
        batch_size: int | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"a backward pass has a sample at least, not {batch_size}")
        self._parameters, self._exchange, self._given_size = parameters, exchange, batch_size
        lists = (nn.ModuleList, nn.ModuleDict)
        # What a loop may call: the model, or its parts one after the other.
        self._entrances = [model]
        for child in model.children():
            self._entrances += child.children() if isinstance(child, lists) else [child]
        self._layers = [each for each in model.modules() if is_normalisation(each)]
        self._watching = ExitStack()
        self._sees_parts = self._sees_examples = True

    def begin(self, *, spent_s: float) -> None:
        """See the step that comes; `spent_s` were spent since the last one was seen."""
        self._clock = Stopwatch()
        self._clock.seconds = spent_s
        with self._clock:
            #: Of each micro-batch.
            self._sizes: list[int] = []
            self._is_open = True
            self._scaler: Any = None
            self._parts = PartNorms(self._parameters, self._exchange, self._clock)
            self._examples = ExampleNorms(self._layers, self._clock)
            if self._sees_parts:
                self._parts.watch(self._watching)
            if self._sees_examples:
                self._examples.watch(self._watching)
            for each in self._entrances:
                handle = each.register_forward_pre_hook(self._see_call, with_kwargs=True)
                self._watching.callback(handle.remove)
            self._watch_scaler()

    def release(self) -> None:
        """See no more."""
        self._watching.close()

    def finish(self, at_step: int, *, step_s: float, excess_s: float) -> Callable[[], Seen]:
        """Return what waits for the ranks, and returns what the step told.

        To be called on all of them before the next step that is seen begins. A step that is not
        seen takes `step_s`, this one took by `excess_s` longer.
        """
        with self._clock:
            self.release()
            parts, examples = self._parts.finish(), self._examples.finish()
            if not self._sizes and self._given_size:  # no call was seen, as inside what is compiled
                self._sizes = [self._given_size] * self._parts.micro_batches
            size = self._sizes[0] if len({*self._sizes}) == 1 else 0
            scale = 1.0 if self._scaler is None else float(self._scaler.get_scale())
        seen = parts or Parts(0, 0.0, 0.0)
        wait = self._exchange.begin_to_add(
            have_parts=parts is not None,
            parts=seen.micro_batches,
            part_sqnorm=seen.sqnorm,
            total_sqnorm=seen.total_sqnorm,
            have_examples=examples is not None,
            examples=examples.examples if examples else 0,
            example_sqnorm=examples.sqnorm if examples else 0.0,
            have_sizes=size > 0,
            sizes=size,
            size_squares=size**2,
            cost_s=self._clock.seconds,
            excess_s=excess_s,
            step_s=step_s,
        )
        return lambda: self._tell(at_step, SimpleNamespace(**wait()), examples, size, scale)

    def _tell(
        self, at_step: int, sums: Any, examples: Examples | None, size: int, scale: float
    ) -> Seen:
        """Return what the sums tell.

        The mean over R gradients, of h_p each of P parts or examples, is that of m_p = P·h_p/R;
        where ranks share one R is 1, and its squared norms are the sums over their parts of it.
        """
        ranks = self._exchange.ranks
        is_even = sums.have_sizes == ranks and ranks * sums.size_squares == sums.sizes**2
        gradients = 1 if self._exchange.is_sharded else ranks
        count, samples = sums.parts * gradients / ranks, sums.parts * size
        sqnorm, total = sums.part_sqnorm, sums.total_sqnorm / gradients
        estimator: Estimator | None = None
        if is_even and sums.have_parts == ranks and count >= 2:
            estimator = "ranks" if gradients > 1 else "micro-batches"
        elif is_even and sums.have_examples == ranks and examples is not None:
            estimator, gradients = "per-example", ranks
            count, samples, sqnorm = sums.examples, sums.examples, sums.example_sqnorm
            added = self._exchange.add_tensor(examples.total)
            total = float(torch.linalg.vector_norm(added)) ** 2 / ranks**2
        # The next step is seen as this one was, or in both ways.
        self._sees_examples = estimator in {None, "per-example"}
        self._sees_parts = estimator != "per-example" or len(self._sizes) > 1
        entry, reason = None, self._explain(is_even=is_even)
        if estimator is not None and math.isfinite(sqnorm + total) and count >= 2:
            entry = NoiseLogEntry(
                at_step=at_step,
                samples=samples,
                micro_batches=count,
                micro_batch_sqnorm=count * sqnorm / (gradients * scale) ** 2,
                mean_sqnorm=total / scale**2,
            )
        elif estimator is not None:
            reason = "the gradients were not finite" if count >= 2 else "a step has one example"
        means_s = (each / ranks for each in (sums.cost_s, sums.excess_s, sums.step_s))
        return Seen(estimator, entry, reason, *means_s)

    def _explain(self, *, is_even: bool) -> str:
        if not self._sizes:
            return "no size of a batch was seen in the model's call: give batch_size"
        if not is_even:
            return "micro-batches of one step differ in size"
        if not self._layers:
            return (
                "a step is one backward pass, and the model has no normalisation layer to see "
                "examples in: accumulate two micro-batches or more"
            )
        return "neither micro-batches nor the examples in normalisation layers could be told apart"

    def _see_call(self, _: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        """See the model called: for another micro-batch where gradients came since the last."""
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return
        if torch._C._current_graph_task_id() != -1:  # noqa: SLF001 - a checkpoint that is recomputed
            return
        with self._clock:
            if self._parts.is_part_begun or self._examples.is_part_begun:
                self._is_open = True
            if self._is_open:
                self._parts.begin_part()
                found = find_tensor((inputs, named))
                seen = found.shape[0] if found is not None and found.ndim else 0
                if size := self._given_size or seen:
                    self._examples.begin_part(size)
                    self._sizes.append(size)
                    self._is_open = False

    def _watch_scaler(self) -> None:
        """Note the GradScaler that scales a loss, by which the gradients are then too large."""
        kind: Any = torch.amp.GradScaler
        scale_outputs = kind.scale

        def scale(scaler: Any, outputs: Any) -> Any:
            self._scaler = scaler
            return scale_outputs(scaler, outputs)

        self._watching.callback(setattr, kind, "scale", scale_outputs)
        kind.scale = scale
