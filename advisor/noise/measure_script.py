"""Gradient moments along a training of the user's own script.

train ... | iterate: K steps that change nothing, each on the loop's next batch | train ...

The gradients are read before the script clips them, and taken away before its optimizer steps.
"""

import bisect
import math
import time
from typing import NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from advisor.engine.worker.entry import Emitter
from advisor.noise.data import NoiseTask
from advisor.noise.measure import afford_groups
from advisor.noise.measure_moments import GroupSums
from advisor.noise.rounds import LEAST_GROUPS, Rounds
from advisor.training.data import WARMUP_FRACTION
from advisor.training.observer import Step
from advisor.training.out_of_memory import is_out_of_memory
from advisor.training.script.rate import RateFactor
from advisor.training.script.running import ScriptRun
from advisor.training.script.stream import StepStream


class _Trained(NamedTuple):
    """The script's optimizer and what it moves."""

    optimizer: Optimizer
    parameters: list[nn.Parameter]

    @property
    def device(self) -> torch.device:
        return self.parameters[0].device

    def list_parameters(self) -> list[nn.Parameter]:
        return self.parameters


class FrozenVisits:
    """Freezes the script's training at each point, and sees the gradients of some steps there."""

    stream: StepStream

    def __init__(self, task: NoiseTask, emit: Emitter) -> None:
        self._task, self._emit = task, emit
        self._points = list(task.trajectory.points)
        self._rounds = Rounds(task.trajectory)
        self._sums: GroupSums | None = None
        self._trained = self._passed = 0
        self._ends_s = time.perf_counter() + task.trajectory.budget_s
        self._is_pilot = True

    def before_step(self, step: Step) -> None:
        """Add a frozen step's gradient, or begin with one."""
        if self.stream.is_frozen:
            if self._sums is None:
                self._begin(step)
            assert self._sums is not None
            self._sums.before_step(step)

    def after_step(self, step: Step) -> bool:
        """Go on to the next step, group or point; return False after the last, or late."""
        is_late = time.perf_counter() > self._ends_s
        if self._sums is None:
            self._trained += 1
            self._freeze()
            return not is_late
        if self._sums.after_step(step):
            return True
        is_done = self._finish()
        return not is_late and not is_done

    def see_start(self) -> None:
        """Freeze before the first step where that is the first point."""
        self._freeze()

    def _freeze(self) -> None:
        self.stream.is_frozen = bool(self._points) and self._trained >= self._points[0]

    def _begin(self, step: Step) -> None:
        optimizer = step.optimizer
        assert optimizer is not None
        everything = (p for group in optimizer.param_groups for p in group["params"])
        trained = _Trained(optimizer, [p for p in everything if p.requires_grad])
        groups = min(self._task.groups, afford_groups(trained, self._task.host_memory_bytes))
        if groups < LEAST_GROUPS:
            self._emit.leave()
        rounds = 1
        if not self._is_pilot:
            rounds = self._rounds.choose(
                groups, step.samples, most=self._task.max_micro_batches // groups
            )
        left_s = self._ends_s - time.perf_counter()
        self._sums = GroupSums(
            trained,
            groups,
            step.samples,
            rounds=rounds,
            least_groups=LEAST_GROUPS,
            deadline_s=time.perf_counter() + left_s / len(self._points),
        )

    def _finish(self) -> bool:
        """Keep an iterate; return whether it was the last."""
        task, point = self._task, self._points[0]
        path, sums = task.trajectory, self._sums
        assert sums is not None
        labels = {"training_batch_size": self.stream.samples}
        if path.edges:
            end = bisect.bisect_right(path.edges, point)
            labels["stands_for"] = (path.edges[end - 1], path.edges[end])  # type: ignore[assignment]
        found = sums.finish(point, per_sample_sum=path.loss_is_sum, **labels)
        self._sums = None
        if found is not None:
            self._rounds.note(found)
        if self._is_pilot:  # what decides how much is measured is thrown away
            self._is_pilot = False
            return False
        if found is not None:
            self._emit(found)
        self._points.pop(0)
        self._freeze()
        return not self._points


def run(task: NoiseTask, emit: Emitter) -> None:
    """Emit one NoiseBatches for each point of the trajectory, and end the process."""
    path, visits = task.trajectory, FrozenVisits(task, emit)
    script = ScriptRun(
        task.workload,
        emit,
        observers=[visits],
        samples=path.micro_batch_size,
        accumulation=path.gradient_accumulation_steps,
    )
    visits.stream = script.stream
    steps = math.ceil(WARMUP_FRACTION * max(path.points, default=0))
    RateFactor(None, steps).attach(script.stream)
    visits.see_start()
    try:
        script.follow(lambda: None)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        emit.leave()
