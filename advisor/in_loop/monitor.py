"""The noise scale of a training as it runs, from the gradients of its own steps."""

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from advisor.in_loop.data import SOURCES, WINDOW_STEPS, NoiseScale, pool_steps
from advisor.in_loop.exchange import Exchange
from advisor.in_loop.interval import Interval
from advisor.in_loop.sight import Seen, StepSight
from advisor.noise.data import Estimator, NoiseLogEntry
from advisor.noise.log import encode_entry
from advisor.noise.point import LEAST_STEPS
from advisor.training.devices import synchronise
from advisor.training.optimizer_facts import find_leading, to_number
from advisor.units import count_of, format_percent


class NoiseScaleMonitor:
    """Measures the gradient noise scale in some steps of a training that goes on as it is.

    As a context manager around the loop it needs no further call. It reads gradients as the
    backward pass brings them: before ranks exchange them, and before they are unscaled or clipped.
    On several ranks each has one.

    Args:
        model: As the loop calls it, in DistributedDataParallel or `fully_shard` where it is; None
            where `attach` gives it later.
        optimizer: Whose steps are those of the training.
        log: File to which each measured step adds a line, as `--noise-log` reads them.
        logger: Is told the value after each measured step: mlflow, a logger of Lightning's, a
            TensorBoard SummaryWriter, a run of Weights & Biases, or a function of a dictionary and
            the step.
        every: Measures every so many steps; None chooses so that it costs 1 % of a step at most.
        window: Measured steps that one value is told from, 8 at least.
        batch_size: Samples of a backward pass of a process; None reads them from the first tensor
            that the model is called with.
        dataset_size: Samples of a training set that is passed many times.

    Raises:
        ValueError: No parameter trains, or a number is too small to mean anything.
        TypeError: The logger is none of these.
    """

    def __init__(
        self,
        model: nn.Module | None,
        optimizer: Optimizer | None,
        *,
        log: str | Path | None = None,
        logger: Any = None,
        every: int | None = None,
        window: int = WINDOW_STEPS,
        batch_size: int | None = None,
        dataset_size: int | None = None,
    ) -> None:
        if window < LEAST_STEPS:
            raise ValueError(f"a window of {window} steps tells nothing: {LEAST_STEPS} at least")
        if dataset_size is not None and dataset_size < 1:
            raise ValueError(f"a training set has a sample at least, not {dataset_size}")
        self._log, self._tell = log, None if logger is None else _bind_logger(logger)
        self._batch_size, self._dataset_size = batch_size, dataset_size
        self._interval = Interval(every)
        self._entries: deque[NoiseLogEntry] = deque(maxlen=window)
        self._estimator: Estimator | None = None
        self._value: NoiseScale | None = None
        self._reason = "no step was measured yet"
        self._handle: RemovableHandle | None = None
        self._step = self._since_step = self._due = 0
        self._is_seeing = self._is_new = False
        #: What waits for the ranks' sums of the last measured step.
        self._wait_for_ranks: Callable[[], None] | None = None
        self._since_s = self._step_s = self._spent_s = 0.0
        if model is not None and optimizer is not None:
            self.attach(model, optimizer)

    def attach(self, model: nn.Module, optimizer: Optimizer) -> None:
        """Have the steps of this optimizer be those of the training, in place of another's."""
        self.stop()
        while not hasattr(optimizer, "_optimizer_step_post_hooks"):  # a library's wrapper
            optimizer = optimizer.optimizer  # type: ignore[attr-defined]
        everything = (p for group in optimizer.param_groups for p in group["params"])
        parameters = [p for p in everything if p.requires_grad]
        if not parameters:
            raise ValueError("the optimizer has no parameter that requires a gradient")
        exchange = Exchange(model, parameters)
        self._optimizer, self._device, self._leads = optimizer, parameters[0].device, exchange.leads
        self._sight = StepSight(model, parameters, exchange, batch_size=self._batch_size)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Watch the optimizer's steps."""
        if self._handle is None:
            self._handle = self._optimizer.register_step_post_hook(self._count_step)
            self._wait(self._interval.first_steps)

    def stop(self) -> None:
        """Watch them no more; the value stays."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
            self._sight.release()
            self._take_in()

    @property
    def value(self) -> NoiseScale | None:
        """The noise scale over the last measured steps; None before there are 8."""
        self._take_in()
        if self._is_new and self._estimator is not None:
            self._value = pool_steps(self.entries, self._estimator, self._dataset_size)
            self._is_new = False
        return self._value

    @property
    def every(self) -> int:
        """Of how many steps one is measured."""
        self._take_in()
        return self._interval.every

    @property
    def cost_fraction(self) -> float | None:
        """Of a step's time, averaged, that measuring is seen to take; None before it is known."""
        self._take_in()
        return self._interval.cost_fraction

    @property
    def estimator(self) -> Estimator | None:
        """What the steps were told from; None before the first."""
        self._take_in()
        return self._estimator

    @property
    def entries(self) -> tuple[NoiseLogEntry, ...]:
        """What the steps showed that the value is told from."""
        self._take_in()
        return tuple(self._entries)

    def __str__(self) -> str:
        """Return the value, what it was told from and what that costs, or why there is none."""
        value, cost = self.value, self.cost_fraction
        spent = "" if cost is None else f": {format_percent(cost)} of a step"
        every = f"every {'step' if self.every == 1 else count_of(self.every, 'step')}{spent}"
        if value is None:
            seen = f"{count_of(len(self.entries), 'step')} measured"
            return f"no noise scale yet: {self._reason or seen}, {every}"
        return (
            f"noise scale {value} at step {value.at_step}, from "
            f"{SOURCES[value.estimator]} of {value.steps} steps, {every}"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what a monitor of the same training needs to go on, in plain containers."""
        return {
            "step": self._step,
            "estimator": self.estimator,
            "entries": [msgspec.to_builtins(entry) for entry in self.entries],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, before the loop begins."""
        self._step = int(state_dict.get("step", 0))
        if state_dict.get("estimator") is not None:
            entries = msgspec.convert(state_dict["entries"], list[NoiseLogEntry])
            self._add(state_dict["estimator"], *entries)

    def _add(self, estimator: Estimator, *entries: NoiseLogEntry) -> None:
        """Keep steps; those told from something else are of another noise scale and go."""
        if estimator != self._estimator:
            self._entries.clear()
        self._estimator, self._is_new = estimator, True
        self._entries.extend(entries)

    def _count_step(self, *_: object) -> None:
        self._step += 1
        if self._step < self._due:
            return
        if self._is_seeing:
            self._end_seeing()
        else:
            self._begin_seeing()

    def _wait(self, steps: int) -> None:
        """See no step before so many were taken."""
        self._is_seeing = False
        self._due = self._step + steps
        self._since_step, self._since_s = self._step, time.perf_counter()
        if not steps:
            self._begin_seeing()

    def _begin_seeing(self) -> None:
        self._take_in()
        synchronise(self._device)
        now_s, steps = time.perf_counter(), self._step - self._since_step
        self._step_s = (now_s - self._since_s) / steps if steps else 0.0
        self._sight.begin(spent_s=self._spent_s)
        self._is_seeing, self._due, self._since_s = True, self._step + 1, now_s

    def _end_seeing(self) -> None:
        synchronise(self._device)
        excess_s = time.perf_counter() - self._since_s - self._step_s if self._step_s else 0.0
        wait = self._sight.finish(self._step - 1, step_s=self._step_s, excess_s=excess_s)
        rates = [group.get("lr") for group in self._optimizer.param_groups]
        rate = to_number(rates[find_leading(rates)]) or None
        self._wait_for_ranks = lambda: self._keep(wait(), rate)
        if not self._interval.is_known:
            self._take_in()
        # On all ranks by what they know at this step, whoever has asked for a value since.
        self._wait(self._interval.every - 1)

    def _take_in(self) -> None:
        """Take in what the last measured step told: ranks do not wait for each other till then."""
        wait, self._wait_for_ranks = self._wait_for_ranks, None
        if wait is not None:
            began_s = time.perf_counter()
            wait()
            self._spent_s = time.perf_counter() - began_s

    def _keep(self, seen: Seen, learning_rate: float | None) -> None:
        self._reason = seen.reason if seen.entry is None else ""
        if seen.entry is not None and seen.estimator is not None:
            self._add(seen.estimator, seen.entry)
            self._write(seen.estimator, seen.entry, learning_rate)
        self._interval.note(cost_s=seen.cost_s, excess_s=seen.excess_s, step_s=seen.step_s)

    def _write(
        self, estimator: Estimator, entry: NoiseLogEntry, learning_rate: float | None
    ) -> None:
        if not self._leads:
            return
        if self._log is not None:
            name = type(self._optimizer).__name__
            with Path(self._log).open("a", encoding="utf-8") as file:
                file.write(
                    encode_entry(
                        entry, estimator=estimator, learning_rate=learning_rate, optimizer=name
                    )
                )
        if self._tell is not None and (value := self.value) is not None:
            ends = {
                "noise_scale": value.noise_scale,
                "noise_scale_low": value.low,
                "noise_scale_high": value.high,
            }
            self._tell({name: end for name, end in ends.items() if end is not None}, entry.at_step)


def _bind_logger(logger: Any) -> Callable[[dict[str, float], int], Any]:
    """Return what tells the user's own logger names with their values and the step, by its call."""
    if hasattr(logger, "log_metrics"):
        return lambda values, step: logger.log_metrics(values, step=step)
    if hasattr(logger, "add_scalar"):
        return lambda values, step: [logger.add_scalar(*pair, step) for pair in values.items()]
    if hasattr(logger, "log"):
        # With what the loop logs next: a step of our own could be behind its count.
        return lambda values, _step: logger.log(values, commit=False)
    if callable(logger):
        tell: Callable[[dict[str, float], int], Any] = logger
        return tell
    raise TypeError(
        f"{type(logger).__name__} is no logger: give a TensorBoard SummaryWriter, a run of "
        "Weights & Biases, mlflow, a logger of Lightning's, or a function of a dictionary and the "
        "step"
    )
