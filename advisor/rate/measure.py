"""Trials: training at one batch and rate.

Every branch of a seed starts from the same weights and sees the same samples in the same order. Its
progress is the mean training-mode loss on samples fixed for all branches.
"""

import itertools
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from advisor.engine.worker.emitter import Emit
from advisor.memory.measure import catch_out_of_memory
from advisor.rate.data import BranchTask, Evaluation, TrialBranch, TrialTask
from advisor.training.data import WorkloadSpec
from advisor.training.heap import keep_freed_memory
from advisor.training.loop import train
from advisor.training.model_file.batches import map_tensors, tensors_of
from advisor.training.model_file.buffers import preserve_buffers
from advisor.training.model_file.order import IndexStream, seed_everything
from advisor.training.model_file.workload import Workload
from advisor.training.observer import Observer, Step
from advisor.training.optimizer_facts import find_leading
from advisor.training.schedule import ScheduleObserver
from advisor.training.training import Training

#: Samples on which a loss is evaluated where nothing asks for fewer.
_EVALUATION_SAMPLES = 512
#: The evaluation samples are drawn with this seed, for every branch of every run.
_EVALUATION_SEED = 20_061
#: Batches of evaluations that a worker keeps, in all.
_KEPT_BYTES = 64 << 20


def run(task: TrialTask, emit: Emit[TrialBranch]) -> None:
    """Emit one TrialBranch for each seed and length."""
    workload, take = open_for_training(task.workload)
    started = time.perf_counter()
    for seed in task.seeds:
        if time.perf_counter() - started > task.budget_s:
            return
        with catch_out_of_memory() as failure:
            for branch in task.list_branches():
                seed_everything(seed)
                # Named nowhere: beside the next one there may be no room for it.
                emit(follow_branch(workload, workload.make_training(), branch, seed, take=take))
        if failure:
            return


def open_for_training(spec: WorkloadSpec) -> tuple[Workload, Callable[[list[int]], Any]]:
    """Return what many branches are trained on, with what takes the batches of evaluations."""
    workload = Workload(spec)
    keep_freed_memory(workload.device)
    if workload.rows is None:
        workload.batches.keep_samples()
    return workload, keep_batches(workload)


def follow_branch(
    workload: Workload,
    training: Training,
    task: TrialTask,
    seed: int,
    *,
    watch: Callable[[int], None] | None = None,
    take: Callable[[list[int]], Any] | None = None,
) -> TrialBranch:
    """Return one branch, trained from the state that `training` is in, and left in its last.

    `watch` is told the samples consumed at each evaluation, whose batches come from `take`.
    """
    apply_settings(training, task)
    size, size_of_data = task.global_batch_size, workload.batches.sampling_size
    steps = max(1, task.samples // size)
    chosen = choose_evaluation_samples(size_of_data, task.evaluation_samples)
    curve = _LossCurve(
        lambda: evaluate(workload, training, chosen, task.evaluation_batch_size, take),
        every=math.ceil(steps / task.evaluations),
        last=steps,
        watch=watch or (lambda _: None),
    )
    observers: list[Observer] = [curve]
    decays_from = None
    if task.decay_fraction:
        scheduler, decays_from = workload.make_scheduler(training, steps), 0
        if scheduler is not None:
            observers = [ScheduleObserver(scheduler), curve]  # the last evaluation sees the end
        else:
            constant = steps - max(1, round(task.decay_fraction * steps))
            falling = fall_from(task.learning_rate, constant, steps)
            observers = [RateCourse(make_rate_setter(training), falling), curve]
            decays_from = constant * size
    train_on(workload, training, task, IndexStream(size_of_data, seed=seed), observers, steps)
    finite = [each for each in curve.evaluations if math.isfinite(each.loss)]
    return task.make_branch(
        seed=seed,
        samples=steps * size,
        evaluations=tuple(finite),
        diverged=len(finite) < len(curve.evaluations),
        decays_from=decays_from,
    )


class RateCourse(Observer):
    """Sets the rate of each step by its number."""

    def __init__(self, set_rate: Callable[[float], None], rate_at: Callable[[int], float]) -> None:
        self._set_rate, self.rate_at = set_rate, rate_at

    def before_step(self, step: Step) -> None:
        """Set it."""
        self._set_rate(self.rate_at(step.number))


def fall_from(rate: float, constant: int, steps: int) -> Callable[[int], float]:
    """Return the rates that fall to 0 on a line after so many steps; the last one still moves."""
    falling = steps + 1 - constant
    return lambda step: rate * min(1.0, (steps + 1 - max(step, constant)) / falling)


class _LossCurve(Observer):
    """Evaluates the loss before the first step and evenly spaced after it, until it diverges."""

    def __init__(
        self,
        evaluate_now: Callable[[], float],
        *,
        every: int,
        last: int,
        watch: Callable[[int], None],
    ) -> None:
        self._evaluate, self._every, self._last, self._watch = evaluate_now, every, last, watch
        self.evaluations = [Evaluation(samples=0, loss=evaluate_now())]

    def after_step(self, step: Step) -> bool:
        """Evaluate where it is time to; return whether the loss is finite."""
        if step.number % self._every and step.number != self._last:
            return True
        loss, samples = self._evaluate(), step.number * step.samples
        self.evaluations.append(Evaluation(samples=samples, loss=loss))
        if math.isfinite(loss):
            self._watch(samples)
        return math.isfinite(loss)


def choose_evaluation_samples(size: int | None, most: int = _EVALUATION_SAMPLES) -> list[int]:
    """Return the samples on which losses are evaluated: the same for a dataset of this size."""
    return IndexStream(size, seed=_EVALUATION_SEED).next(min(most, size or most))


def keep_batches(workload: Workload) -> Callable[[list[int]], Any]:
    """Return what takes the batch of some samples; of small ones user code gets copies."""
    kept: dict[tuple[int, ...], Any] = {}
    left_bytes = _KEPT_BYTES

    def take(indices: list[int]) -> Any:
        nonlocal left_bytes
        key = tuple(indices)
        if key not in kept:
            batch = workload.take(indices)
            size = sum(tensor.nbytes for tensor in tensors_of(batch))
            if size > left_bytes:
                return batch
            left_bytes -= size
            kept[key] = batch
        return map_tensors(kept[key], torch.Tensor.clone)

    return take


def evaluate(
    workload: Workload,
    training: Training,
    indices: list[int],
    batch_size: int,
    take: Callable[[list[int]], Any] | None = None,
) -> float:
    """Return the mean loss in the mode the model is in; NaN where one is not finite.

    Statistics and random state are left as they were.
    """
    take = take or workload.take
    starts = range(0, len(indices), batch_size)
    parts = [indices[start : start + batch_size] for start in starts]
    if len(parts) > 1 and len(parts[-1]) < batch_size:
        parts.pop()  # BatchNorm must see equal batches
    devices = [workload.device] if workload.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), preserve_buffers(training.model):
        torch.manual_seed(_EVALUATION_SEED)
        losses = [training.evaluate(take(part)) for part in parts]
    return math.fsum(losses) / len(losses) if all(map(math.isfinite, losses)) else math.nan


def train_on(
    workload: Workload,
    training: Training,
    task: BranchTask[Any],
    stream: IndexStream,
    observers: list[Observer],
    most_steps: int,
) -> None:
    """Train at the task's batch on the stream's next samples."""
    train(
        training,
        (workload.gather(stream.next(task.micro_batch_size)) for _ in itertools.count()),
        observers,
        micro_batch_size=task.micro_batch_size,
        accumulation=task.gradient_accumulation_steps,
        loss_is_sum=task.loss_is_sum,
        most_steps=most_steps,
    )


def apply_settings(training: Training, task: TrialTask) -> None:
    """Set the task's rate and other settings."""
    make_rate_setter(training)(task.learning_rate)
    apply_other_settings(training.optimizer, task)


def apply_other_settings(optimizer: Optimizer, task: TrialTask) -> None:
    """Set what goes with the task's rate; groups keep the ratios of their decays."""
    groups = optimizer.param_groups
    decay = groups[find_leading([group["lr"] for group in groups])].get("weight_decay")
    for group in groups:
        if task.beta2 is not None and "betas" in group:
            group["betas"] = (group["betas"][0], task.beta2)
        if task.weight_decay is not None and decay and group.get("weight_decay"):
            group["weight_decay"] *= task.weight_decay / decay


def make_rate_setter(training: Training) -> Callable[[float], None]:
    """Return what sets the rate of the first parameter group that trains; others keep their ratio.

    Where all are at rate 0 all get the same.
    """
    groups = training.optimizer.param_groups
    rates = [group["lr"] for group in groups]
    first = rates[find_leading(rates)]
    ratios = [rate / first if first else 1.0 for rate in rates]

    def set_rate(rate: float) -> None:
        for group, ratio in zip(groups, ratios, strict=True):
            group["lr"] = ratio * rate

    return set_rate
