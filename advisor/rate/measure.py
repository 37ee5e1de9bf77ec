"""Short training runs at one batch and rate: the trial that decides what may be advised.

Every branch of a seed starts from the same weights, whatever its batch, and sees the same samples
in the same order. Its progress is the mean training-mode loss on samples fixed for all branches.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from advisor.engine.worker.entry import Emit, seed_everything
from advisor.rate.data import Evaluation, TrialBranch, TrialTask
from advisor.training.heap import keep_freed_memory
from advisor.training.model_file.buffers import preserve_buffers
from advisor.training.model_file.data import IndexStream
from advisor.training.model_file.workload import Workload
from advisor.training.out_of_memory import is_out_of_memory
from advisor.training.training import Training

#: Samples on which a loss is evaluated where nothing asks for fewer.
_EVALUATION_SAMPLES = 512
#: The evaluation samples are drawn with this seed, for every branch of every run.
_EVALUATION_SEED = 20_061


def run(task: TrialTask, emit: Emit[TrialBranch]) -> None:
    """Emit one TrialBranch for each seed."""
    keep_freed_memory()
    workload = Workload(task.workload)
    started = time.perf_counter()
    for seed in task.seeds:
        if time.perf_counter() - started > task.budget_s:
            return
        try:
            emit(_train_branch(workload, task, seed))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return


def _train_branch(workload: Workload, task: TrialTask, seed: int) -> TrialBranch:
    seed_everything(seed)
    return follow_branch(workload, workload.make_training(), task, seed)


def follow_branch(
    workload: Workload,
    training: Training,
    task: TrialTask,
    seed: int,
    *,
    watch: Callable[[int], None] | None = None,
) -> TrialBranch:
    """Return one branch, trained from the state that `training` is in.

    Args:
        workload: The model file.
        training: Left in its last state.
        task: Batch, rate and length; its own seeds are not read.
        seed: Fixes the order of the data.
        watch: Called at each evaluation with the samples consumed so far.
    """
    apply_settings(training, task)
    stream = IndexStream(workload.batches.sampling_size, seed=seed)
    evaluation = choose_evaluation_samples(workload.batches.sampling_size, task.evaluation_samples)
    global_batch_size = task.micro_batch_size * task.gradient_accumulation_steps
    steps = max(1, task.samples // global_batch_size)
    every = max(1, steps // task.evaluations)
    evaluations = [
        Evaluation(
            samples=0, loss=evaluate(workload, training, evaluation, task.evaluation_batch_size)
        )
    ]
    for step in range(1, steps + 1):
        take_step(workload, training, task, stream)
        if step % every == 0 or step == steps:
            loss = evaluate(workload, training, evaluation, task.evaluation_batch_size)
            evaluations.append(Evaluation(samples=step * global_batch_size, loss=loss))
            if not math.isfinite(loss):
                break
            if watch is not None:
                watch(step * global_batch_size)
    finite = [each for each in evaluations if math.isfinite(each.loss)]
    return TrialBranch(
        micro_batch_size=task.micro_batch_size,
        gradient_accumulation_steps=task.gradient_accumulation_steps,
        global_batch_size=global_batch_size,
        learning_rate=task.learning_rate,
        seed=seed,
        samples=steps * global_batch_size,
        evaluations=tuple(finite),
        diverged=len(finite) < len(evaluations),
        beta2=task.beta2,
        weight_decay=task.weight_decay,
    )


def choose_evaluation_samples(size: int | None, most: int = _EVALUATION_SAMPLES) -> list[int]:
    """Return the samples on which losses are evaluated: the same for a dataset of this size."""
    return IndexStream(size, seed=_EVALUATION_SEED).next(min(most, size or most))


def take_step(workload: Workload, training: Training, task: TrialTask, stream: IndexStream) -> None:
    """Run one optimizer step on the stream's next samples."""
    split = task.micro_batch_size, task.gradient_accumulation_steps
    step_on(workload, training, stream, split, loss_is_sum=task.loss_is_sum)


def step_on(
    workload: Workload,
    training: Training,
    stream: IndexStream,
    split: tuple[int, int],
    *,
    loss_is_sum: bool,
) -> None:
    """Run one optimizer step on the stream's next samples.

    Args:
        workload: The model file.
        training: What is trained.
        stream: Names the samples.
        split: Samples of one forward/backward, and how many of these a step has; an optimizer that
            needs a closure has one.
        loss_is_sum: Whether the loss sums over its batch; accumulated losses are then not averaged.
    """
    micro_batch_size, accumulation = split
    if training.needs_closure:
        training.step(workload.take(stream.next(micro_batch_size)))
        return
    divisor = 1.0 if loss_is_sum else float(accumulation)
    for _ in range(accumulation):
        training.backward(workload.take(stream.next(micro_batch_size)), divisor=divisor)
    training.update()


def apply_settings(training: Training, task: TrialTask) -> None:
    """Set the task's rate and other settings."""
    make_rate_setter(training)(task.learning_rate)
    for group in training.optimizer.param_groups:
        if task.beta2 is not None and "betas" in group:
            group["betas"] = (group["betas"][0], task.beta2)
        if task.weight_decay is not None and group.get("weight_decay"):
            group["weight_decay"] = task.weight_decay


def make_rate_setter(training: Training) -> Callable[[float], None]:
    """Return what sets the rate of the first parameter group; others keep their ratio to it.

    A first group at rate 0 gives no ratio to keep: all groups then get the same rate.
    """
    groups = training.optimizer.param_groups
    first = groups[0]["lr"]
    ratios = [group["lr"] / first if first else 1.0 for group in groups]

    def set_rate(rate: float) -> None:
        for group, ratio in zip(groups, ratios, strict=True):
            group["lr"] = ratio * rate

    return set_rate


def evaluate(
    workload: Workload,
    training: Training,
    indices: list[int],
    batch_size: int,
    take: Callable[[list[int]], Any] | None = None,
) -> float:
    """Return the mean loss in the mode the model is in; NaN where one is not finite.

    Statistics and random state are left as they were.

    Args:
        workload: The model file.
        training: Its state is evaluated.
        indices: Samples.
        batch_size: Samples of one pass.
        take: Returns the batch of some samples; None takes the training data's.
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
