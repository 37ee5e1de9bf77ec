"""Gradient moments along a real training run: the raw material of the noise scale.

    train ... | iterate: group 0: m m m, group 1: m m m, ... at frozen parameters | train ...

Gradients of fresh micro-batches m are taken in train mode, never clipped.
"""

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from advisor.engine.worker.emitter import Emit
from advisor.memory.measure import catch_out_of_memory
from advisor.noise.data import NoiseBatches, NoiseTask, Trajectory
from advisor.noise.iterates import LEAST_GROUPS, Rounds
from advisor.noise.measure_moments import GroupSums
from advisor.noise.measure_rows import Room, find_room
from advisor.training.checkpoints import load_checkpoint
from advisor.training.heap import keep_freed_memory
from advisor.training.loop import train
from advisor.training.model_file.buffers import preserve_buffers
from advisor.training.model_file.order import IndexStream
from advisor.training.model_file.workload import Workload
from advisor.training.observer import Observer, Step
from advisor.training.training import Training


def run(task: NoiseTask, emit: Emit[NoiseBatches]) -> None:
    """Emit one NoiseBatches for each iterate or checkpoint, until time, memory or training end."""
    workload = Workload(task.workload)
    keep_freed_memory(workload.device)
    meter = MomentMeter(workload, task, seed=task.workload.seed)
    with catch_out_of_memory():
        for place in visit(workload, task.trajectory):
            batches = meter.measure(place)
            del place  # beside the next checkpoint's there may be no room for it
            if batches is None:
                return
            emit(batches)


class Place(NamedTuple):
    """A training at frozen parameters, and its equal share of the time left."""

    training: Training
    at_step: int
    share_s: float
    #: Other fields of `NoiseBatches`.
    labels: dict[str, Any]


def visit(workload: Workload, path: Trajectory) -> Iterator[Place]:
    """Yield the training at each point, or checkpoint, for as long as there is time."""
    deadline = time.perf_counter() + path.budget_s
    if path.checkpoints:
        yield from _load_each(workload, path.checkpoints, deadline)
        return
    training = workload.make_training()
    stream = IndexStream(workload.batches.sampling_size, seed=workload.spec.seed)
    batches = (workload.take(stream.next(path.micro_batch_size)) for _ in itertools.count())
    batch_size = path.micro_batch_size * path.gradient_accumulation_steps
    clock = _Clock(deadline)
    for number, point in enumerate(path.points):
        if point > clock.steps:
            train(
                training,
                batches,
                [clock],
                micro_batch_size=path.micro_batch_size,
                accumulation=path.gradient_accumulation_steps,
                loss_is_sum=path.loss_is_sum,
                most_steps=point - clock.steps,
            )
        if point > clock.steps:
            return
        share_s = clock.find_left_s(path.points[-1]) / (len(path.points) - number)
        labels = {"training_batch_size": batch_size, **path.label_span(point)}
        yield Place(training, point, share_s, labels)
        clock.resume()


def _load_each(workload: Workload, paths: Sequence[str], deadline: float) -> Iterator[Place]:
    for number, path in enumerate(paths):
        left_s = deadline - time.perf_counter()
        if number and left_s < 0.0:
            return
        training = workload.make_training()
        saved = load_checkpoint(path, training)
        at_step = number if saved.number is None else saved.number
        labels = {"step_source": saved.source, "from_checkpoint": path}
        place = Place(training, at_step, left_s / (len(paths) - number), labels)
        del training
        yield place
        del place


class _Clock(Observer):
    """Counts steps and their seconds, and ends them when the time is up."""

    def __init__(self, deadline: float) -> None:
        self.steps = 0
        self._deadline, self._trained_s = deadline, 0.0
        self.resume()

    def resume(self) -> None:
        """Begin to count seconds as training's."""
        self._since = time.perf_counter()

    def after_step(self, step: Step) -> bool:  # noqa: ARG002
        """Count the step; return whether there is time for another."""
        self.steps += 1
        now = time.perf_counter()
        self._trained_s += now - self._since
        self._since = now
        return now <= self._deadline

    def find_left_s(self, last: int) -> float:
        """Return the seconds left beside the training up to the last point."""
        training_s = (last - self.steps) * self._trained_s / max(1, self.steps)
        return max(0.0, self._deadline - time.perf_counter() - training_s)


class MomentMeter:
    """Measures gradient moments at frozen parameters; what is trained stays as it is."""

    def __init__(self, workload: Workload, task: NoiseTask, *, seed: int) -> None:
        self._workload, self._task = workload, task
        self._seed = (seed * 1_000_003 + 1) * 2
        self._size = workload.batches.sampling_size
        self._stream = IndexStream(self._size, seed=self._seed)
        self._used = 0
        self._rounds = Rounds(task.trajectory)
        passes = math.inf if self._size is None else self._size // task.micro_batch_size
        self._most = min(task.max_micro_batches, passes)  # beyond one pass nothing new is learnt
        self._room = Room(0, "host")

    def measure(self, place: Place) -> NoiseBatches | None:
        """Return the moments at the present parameters; None where there is no room for them.

        Those before decide how many samples are taken (docs/method.md), for the first one a pilot.
        """
        deadline = time.perf_counter() + place.share_s
        training, task = place.training, self._task
        # Each checkpoint has a training of its own, which is not held beyond it.
        is_new = not self._room.groups or bool(task.trajectory.checkpoints)
        if is_new:
            self._room = find_room(training, int(min(task.groups, self._most)), task.memory)
            self._rounds.forget()
        if self._room.groups < LEAST_GROUPS:
            return None
        with preserve_buffers(training.model):  # running statistics are part of the frozen state
            if is_new:
                training.settle_gradient_scale(self._workload.take(range(task.micro_batch_size)))
                pilot = self._collect(place, 1, deadline)
                if pilot is None or time.perf_counter() > deadline:
                    return pilot
            size = task.micro_batch_size
            groups = self._room.groups
            rounds = self._rounds.choose(groups, size, most=int(self._most // groups))
            return self._collect(place, rounds, deadline)

    def _collect(self, place: Place, rounds: int, deadline: float) -> NoiseBatches | None:
        """Return the moments of fresh samples: within one pass over the data none comes twice."""
        task, b = self._task, self._task.micro_batch_size
        wanted = self._room.groups * rounds * b
        if self._size is not None and self._used + wanted > self._size:
            self._seed += 1
            self._stream, self._used = IndexStream(self._size, seed=self._seed), 0
        self._used += wanted
        sums = GroupSums(
            place.training,
            self._room.groups,
            b,
            rounds=rounds,
            token_count=task.token_count,
            least_groups=LEAST_GROUPS,
            deadline_s=deadline,
            place=self._room.place,
        )
        batches = (self._workload.take(self._stream.next(b)) for _ in itertools.count())
        train(place.training, batches, [sums], micro_batch_size=b, is_frozen=True)
        is_sum = task.trajectory.loss_is_sum
        found = sums.finish(place.at_step, per_sample_sum=is_sum, **place.labels)
        self._rounds.note(found)
        return found
