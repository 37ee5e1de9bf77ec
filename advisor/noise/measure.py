"""Gradient moments along a real training run: the raw material of the noise scale.

    train ... | point: group 0: m m m, group 1: m m m, ... at frozen parameters | train ... | point

Gradients of fresh micro-batches m are taken in train mode, never clipped.
"""

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from advisor.device.cpu import available_memory_bytes
from advisor.engine.worker.entry import Emit
from advisor.noise.data import NoiseBatches, NoiseTask, Trajectory
from advisor.noise.measure_moments import GroupSums, choose_dtype, trained_parameters
from advisor.noise.point import estimate_noise_point
from advisor.training.checkpoints import load_checkpoint
from advisor.training.heap import keep_freed_memory
from advisor.training.loop import train
from advisor.training.model_file.buffers import preserve_buffers
from advisor.training.model_file.data import IndexStream
from advisor.training.model_file.workload import Workload
from advisor.training.observer import Step
from advisor.training.out_of_memory import is_out_of_memory
from advisor.training.training import Training

#: A point sees this many times the noise scale of its pilot round: the interval is then about a
#: factor of 2 wide (docs/method.md).
_ENOUGH_NOISE_SCALES = 5.0
#: Fewer groups do not carry a jackknife.
_LEAST_GROUPS = 8
#: Share of the host's free memory that the groups' sums may take.
_HOST_FRACTION = 0.25


def run(task: NoiseTask, emit: Emit[NoiseBatches]) -> None:
    """Emit one NoiseBatches for each point of the trajectory, or each checkpoint, in the budget.

    The trajectory ends early when the time is up, when memory runs out, or when training diverges.

    Raises:
        WorkloadError: A checkpoint does not fit the model file.
    """
    keep_freed_memory()
    workload = Workload(task.workload)
    try:
        for place in visit(workload, task.trajectory):
            batches = _measure(workload, task, place)
            if batches is None:
                return
            emit(batches)
    except Exception as error:
        if not is_out_of_memory(error):
            raise


class Place(NamedTuple):
    """A training at frozen parameters, and its equal share of the time left."""

    training: Training
    number: int  # step of the trajectory, or place of the checkpoint
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
    labels = {"training_batch_size": path.micro_batch_size * path.gradient_accumulation_steps}
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
        # One share more than points are left: that of the training between them.
        share_s = (deadline - time.perf_counter()) / (len(path.points) - number + 1)
        yield Place(training, point, point, share_s, labels)


def _load_each(workload: Workload, paths: Sequence[str], deadline: float) -> Iterator[Place]:
    for number, path in enumerate(paths):
        left_s = deadline - time.perf_counter()
        if number and left_s < 0.0:
            return
        training = workload.make_training()
        saved = load_checkpoint(path, training)
        at_step = number if saved.number is None else saved.number
        labels = {"step_source": saved.source, "from_checkpoint": path}
        yield Place(training, number, at_step, left_s / (len(paths) - number), labels)


class _Clock:
    """Counts steps, and ends them when the time is up."""

    def __init__(self, deadline: float) -> None:
        self.steps = 0
        self._deadline = deadline

    def before_step(self, step: Step) -> None:
        """See nothing."""

    def after_step(self, step: Step) -> bool:  # noqa: ARG002
        """Count the step; return whether there is time for another."""
        self.steps += 1
        return time.perf_counter() <= self._deadline


def _measure(workload: Workload, task: NoiseTask, place: Place) -> NoiseBatches | None:
    """Return the moments at the present parameters, which are left as they are."""
    deadline = time.perf_counter() + place.share_s
    size, b, most = workload.batches.sampling_size, task.micro_batch_size, task.max_micro_batches
    if size is not None:
        most = min(most, size // b)  # beyond one pass nothing new is learnt
    training, is_sum = place.training, task.trajectory.loss_is_sum
    groups = min(task.groups, most, _afford_groups(training, task.host_memory_bytes))
    if groups < _LEAST_GROUPS:
        return None

    def collect(rounds: int, seed: int) -> NoiseBatches | None:
        # An order of its own: within one pass over the data no sample comes twice.
        stream = IndexStream(size, seed=(task.workload.seed * 1_000_003 + place.number) * 2 + seed)
        batches = (workload.take(stream.next(b)) for _ in itertools.count())
        sums = GroupSums(
            training,
            groups,
            b,
            rounds=rounds,
            token_count=task.token_count,
            least_groups=_LEAST_GROUPS,
            deadline_s=deadline,
        )
        train(training, batches, [sums], micro_batch_size=b, is_frozen=True)
        return sums.finish(place.at_step, per_sample_sum=is_sum, **place.labels)

    with preserve_buffers(training.model):  # running statistics are part of the frozen state
        training.settle_gradient_scale(workload.take(range(b)))
        pilot = collect(1, seed=0)
        if pilot is None or time.perf_counter() > deadline:
            return pilot
        return collect(_choose_rounds(pilot, most // groups), seed=1)


def _afford_groups(training: Training, host_memory_bytes: int | None) -> int:
    """Return how many gradients the host has room for, a container's limit included."""
    parameters = trained_parameters(training)
    gradient_bytes = choose_dtype(parameters).itemsize * sum(p.numel() for p in parameters)
    room_bytes = min(available_memory_bytes(), host_memory_bytes or math.inf)
    return int(_HOST_FRACTION * room_bytes / max(1, gradient_bytes))


def _choose_rounds(pilot: NoiseBatches, most: int) -> int:
    """Return the rounds worth measuring by a first round, which is then thrown away.

    Stopping by the same data that make the estimate would favour the moments at which it happens to
    be small: simulated, the median is then 5 to 12 % low (docs/method.md).
    """
    point = estimate_noise_point(pilot)
    if point.gradient_sqnorm <= 0:
        return most
    noise_scale = point.gradient_cov_trace / point.gradient_sqnorm
    return max(1, min(most, math.ceil(_ENOUGH_NOISE_SCALES * noise_scale / point.samples)))
