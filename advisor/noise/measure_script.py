"""Gradient moments along a training of the user's own script.

train ... | iterate: K steps that change nothing, each on the loop's next batch | train ...

The gradients are read before the script clips them, and taken away before its optimizer steps.
"""

import math
import time
from typing import NamedTuple

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from advisor.engine.worker.emitter import Emitter
from advisor.memory.measure import catch_out_of_memory
from advisor.noise.data import NoiseBatches, NoiseTask
from advisor.noise.iterates import LEAST_GROUPS, Rounds
from advisor.noise.measure_moments import GroupSums
from advisor.noise.measure_rows import find_room
from advisor.training.data import WARMUP_FRACTION
from advisor.training.observer import Observer, Step
from advisor.training.script.rate import RateFactor
from advisor.training.script.running import ScriptRun
from advisor.training.script.stream import StepStream
from advisor.training.script.word import Word, WordObserver


class _Trained(NamedTuple):
    """The script's optimizer and what it moves."""

    optimizer: Optimizer
    parameters: list[nn.Parameter]

    @property
    def device(self) -> torch.device:
        return self.parameters[0].device

    def list_parameters(self) -> list[nn.Parameter]:
        return self.parameters


class _Visits(Observer):
    """Freezes the script's training at each point, and sees the gradients of some steps there.

    The first visit is a pilot: what decides how much is measured is thrown away.
    """

    def __init__(self, task: NoiseTask, emit: Emitter, words: WordObserver | None) -> None:
        self._task, self._emit, self._words = task, emit, words
        self._points = list(task.trajectory.points)
        self._sums: GroupSums | None = None
        self._trained = self._visit = 0

    def attach(self, stream: StepStream) -> None:
        """Watch a stream; freeze at once where that is wanted."""
        self._stream = stream
        self._freeze()

    def before_step(self, step: Step) -> None:
        """Add a frozen step's gradient, or begin with one."""
        if self._stream.is_frozen:
            if self._sums is None:
                self._sums = self._begin(step)
            if self._sums is not None:
                self._sums.before_step(step)

    def _begin(self, step: Step) -> GroupSums | None:
        raise NotImplementedError

    def _freeze(self) -> None:
        self._stream.is_frozen = bool(self._points) and self._trained >= self._points[0]

    def _conclude(self, at_step: int) -> NoiseBatches | None:
        """Return what the visit saw, and tell it where it was no pilot."""
        path, sums, self._sums = self._task.trajectory, self._sums, None
        assert sums is not None
        labels = {"training_batch_size": self._stream.samples, **path.label_span(at_step)}
        found = sums.finish(at_step, per_sample_sum=path.loss_is_sum, **labels)
        if self._visit > 0 and found is not None:
            self._emit(found)
        return found


class FrozenVisits(_Visits):
    """Decides how long a visit lasts, and tells other ranks."""

    def __init__(self, task: NoiseTask, emit: Emitter, words: WordObserver | None) -> None:
        super().__init__(task, emit, words)
        self._rounds = Rounds(task.trajectory)
        self._ends_s = time.perf_counter() + task.trajectory.budget_s

    def after_step(self, step: Step) -> bool:
        """Go on to the next step, group or point; return False after the last, or late."""
        is_late = time.perf_counter() > self._ends_s
        if self._sums is None:
            self._trained += 1
            self._freeze()
        elif not self._sums.after_step(step):
            self._rounds.note(self._conclude(self._points[0]))
            if self._visit:
                self._points.pop(0)
                self._freeze()
            self._visit += 1
        if self._words is not None:
            visit = self._visit if self._stream.is_frozen else -1
            group = 0 if self._sums is None else self._sums.group
            self._words.word = Word(step.number, visit, group)
        return not is_late and (bool(self._points) or not self._visit)

    def _begin(self, step: Step) -> GroupSums:
        trained = _read_trained(step)
        room = find_room(trained, self._task.groups, self._task.memory)
        if room.groups < LEAST_GROUPS:
            self._emit.stop()
        most = self._task.max_micro_batches // room.groups
        rounds = self._rounds.choose(room.groups, step.samples, most=most) if self._visit else 1
        left_s = self._ends_s - time.perf_counter()
        return GroupSums(
            trained,
            room.groups,
            step.samples,
            rounds=rounds,
            least_groups=LEAST_GROUPS,
            deadline_s=time.perf_counter() + left_s / len(self._points),
            place=room.place,
        )


class FollowedVisits(_Visits):
    """Does on another rank what the first one decides; sees gradients where ranks share them."""

    def attach(self, stream: StepStream) -> None:
        """Watch a stream; freeze at once where that is wanted."""
        super().attach(stream)
        self._visit = 0 if stream.is_frozen else -1

    def after_step(self, step: Step) -> bool:  # noqa: ARG002
        """Do as the word of the next step says."""
        assert self._words is not None
        word = self._words.word
        self._trained += not self._stream.is_frozen
        if word.visit != self._visit:
            if self._sums is not None:
                self._conclude(self._trained)
            self._visit = word.visit
        elif self._sums is not None:
            self._sums.go_to(word.group)
        self._stream.is_frozen = word.is_frozen
        return True

    def _begin(self, step: Step) -> GroupSums | None:
        trained = _read_trained(step)
        if not any(isinstance(parameter, DTensor) for parameter in trained.parameters):
            return None
        place = find_room(trained, self._task.groups, self._task.memory).place
        return GroupSums(trained, self._task.groups, step.samples, place=place)


def _read_trained(step: Step) -> _Trained:
    optimizer = step.optimizer
    assert optimizer is not None
    everything = (p for group in optimizer.param_groups for p in group["params"])
    return _Trained(optimizer, [p for p in everything if p.requires_grad])


def run(task: NoiseTask, emit: Emitter) -> None:
    """Emit one NoiseBatches for each point of the trajectory, and end the process."""
    path = task.trajectory
    words = None if emit.words is None else WordObserver(emit.words, leads=not emit.goes_on)
    follows = words is not None and emit.goes_on
    visits = (FollowedVisits if follows else FrozenVisits)(task, emit, words)
    observers: list[Observer] = [visits] if words is None else [visits, words]
    script = ScriptRun(
        task.workload,
        emit,
        observers=observers[::-1] if follows else observers,
        samples=path.micro_batch_size,
        accumulation=path.gradient_accumulation_steps,
    )
    visits.attach(script.stream)
    steps = math.ceil(WARMUP_FRACTION * max(path.points, default=0))
    RateFactor(None, steps).attach(script.stream)
    with catch_out_of_memory():
        script.follow(lambda: None)
    emit.stop()
