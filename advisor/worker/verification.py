"""Branches from one state: train once with the user's own pair, then go on at other batches.

The state holds the optimizer's too, so that moments carry over. Branches of one seed see the same
samples in the same order, whatever their batch, and draw the same random numbers.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import msgspec
import torch

from advisor.measurements import HeldOutEvaluation, VerificationBranch
from advisor.spec import TrialTask, VerificationTask
from advisor.worker.entry import Emit, describe, seed_everything
from advisor.worker.heap import keep_freed_memory
from advisor.worker.out_of_memory import is_out_of_memory
from advisor.worker.training import (
    apply_settings,
    choose_evaluation_samples,
    evaluate,
    follow_branch,
    take_step,
)
from advisor.workload.batches import to_device
from advisor.workload.data import Batches, IndexStream
from advisor.workload.training import Training
from advisor.workload.workload import Workload

#: Keeps the order of a branch's data apart from that of the trunk and of the trials.
_SEED_STRIDE = 1_000_003


def run(task: VerificationTask, emit: Emit) -> None:
    """Emit one VerificationBranch for each branch that the budget and the memory allow."""
    keep_freed_memory()
    started = time.perf_counter()
    workload = Workload(task.workload)
    seed_everything(task.workload.seed)
    training = workload.make_training()
    _train_trunk(workload, training, task.trunk)
    state = training.copy_state()
    held_out = workload.open_held_out()
    too_large: set[int] = set()
    for branch in task.branches:
        size = branch.micro_batch_size * branch.gradient_accumulation_steps
        if time.perf_counter() - started > task.budget_s:
            return
        if size in too_large:
            continue
        training.restore_state(state)
        try:
            emit(_train_branch(workload, training, branch, held_out))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            too_large.add(size)


def _train_trunk(workload: Workload, training: Training, trunk: TrialTask) -> None:
    apply_settings(training, trunk)(1.0)
    stream = IndexStream(workload.batches.sampling_size, seed=trunk.workload.seed)
    size = trunk.micro_batch_size * trunk.gradient_accumulation_steps
    for _ in range(trunk.samples // size):
        take_step(workload, training, trunk, stream)


def _train_branch(
    workload: Workload, training: Training, task: TrialTask, held_out: Batches | None
) -> VerificationBranch:
    (seed,) = task.seeds
    order = task.workload.seed * _SEED_STRIDE + seed + 1
    seed_everything(order % 2**32)
    losses = _HeldOutLosses(workload, training, held_out, task.evaluation_batch_size)
    losses.watch(0)
    branch = follow_branch(workload, training, task, order, watch=losses.watch)
    fields = {name: getattr(branch, name) for name in branch.__struct_fields__}
    return msgspec.structs.replace(
        VerificationBranch(**fields),
        seed=seed,
        held_out=tuple(losses.evaluations),
        held_out_failure=losses.failure,
    )


class _HeldOutLosses:
    """Gathers losses in eval mode along a branch, on training and held-out samples alike."""

    def __init__(
        self, workload: Workload, training: Training, held_out: Batches | None, batch_size: int
    ) -> None:
        self._workload = workload
        self._training = training
        self._batch_size = batch_size
        self._held_out = held_out
        self.evaluations: list[HeldOutEvaluation] = []
        self.failure: str | None = None

    def watch(self, samples: int) -> None:
        """Evaluate now; a model that has no loss in eval mode is not asked again."""
        held_out = self._held_out
        if held_out is None or self.failure is not None:
            return
        model = self._training.model
        model.eval()
        try:
            train_loss = self._evaluate(self._workload.batches, self._workload.take)
            held_out_loss = self._evaluate(held_out, self._take_from(held_out))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            self.failure = describe(error)
            return
        finally:
            model.train()
        if math.isfinite(train_loss) and math.isfinite(held_out_loss):
            self.evaluations.append(
                HeldOutEvaluation(
                    samples=samples, train_loss=train_loss, held_out_loss=held_out_loss
                )
            )

    def _evaluate(self, batches: Batches, take: Callable[[list[int]], Any]) -> float:
        chosen = choose_evaluation_samples(batches.sampling_size)
        with torch.no_grad():
            return evaluate(self._workload, self._training, chosen, self._batch_size, take)

    def _take_from(self, batches: Batches) -> Callable[[list[int]], Any]:
        return lambda indices: to_device(batches.take(indices), self._workload.device)
