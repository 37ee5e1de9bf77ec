"""Branches from one state: train once with the user's own pair, then go on at other batches.

The state holds the optimizer's too, so that moments carry over. Branches of one seed see the same
samples in the same order, whatever their batch, and draw the same random numbers.
"""

import math
import time
from typing import Any

import msgspec
import torch
from msgspec.structs import replace

from advisor.engine.worker.emitter import Emit
from advisor.engine.worker.failure import describe
from advisor.memory.measure import catch_out_of_memory
from advisor.rate.curves import has_diverged
from advisor.rate.data import TrialTask
from advisor.rate.measure import (
    apply_settings,
    choose_evaluation_samples,
    evaluate,
    follow_branch,
    make_rate_setter,
    train_on,
)
from advisor.sharpness.measure import SharpnessMeter
from advisor.training.checkpoints import load_checkpoint
from advisor.training.device_failure import is_out_of_memory
from advisor.training.heap import keep_freed_memory
from advisor.training.model_file.buffers import preserve_buffers
from advisor.training.model_file.data import Batches
from advisor.training.model_file.order import IndexStream, seed_everything
from advisor.training.model_file.workload import Workload
from advisor.training.training import Training
from advisor.verify.data import HeldOutEvaluation, VerificationBranch, VerificationTask

#: Keeps the order of a branch's data apart from that of the trunk and of the trials.
_SEED_STRIDE = 1_000_003
#: Share of a branch's own time that the sharpness at its end is expected to take at most ...
_SHARE_FRACTION = 0.2
#: ... unless it is that short beside the time left for all branches: small models train for
#: milliseconds, and their sharpness is still worth having.
_LEAST_SHARE_FRACTION = 0.05
#: It is given up after this many times what it may take: the products it needs are not known.
_PATIENCE = 2.0

_NOT_SETTLED = "it had not settled when its share of the time was over"


def run(task: VerificationTask, emit: Emit[VerificationBranch]) -> None:
    """Emit one VerificationBranch for each branch that the budget and the memory allow."""
    started = time.perf_counter()
    workload = Workload(task.workload)
    keep_freed_memory(workload.device)
    seed_everything(task.workload.seed)
    training = workload.make_training()
    if task.checkpoint is None:
        _train_trunk(workload, training, task.trunk)
    else:
        load_start(workload, training, task.checkpoint, task.trunk)
    state = training.copy_state()
    trainer = _BranchTrainer(workload, training, task)
    too_large: set[int] = set()
    for branch in task.branches:
        size = branch.global_batch_size
        if time.perf_counter() - started > task.budget_s:
            return
        if size in too_large:
            continue
        training.restore_state(state)
        with catch_out_of_memory() as failure:
            emit(trainer.train(branch))
        if failure:
            too_large.add(size)


def _train_trunk(
    workload: Workload, training: Training, trunk: TrialTask, *, fills_state: bool = False
) -> None:
    """Take the trunk's steps; those that fill a state do so at rate 0, while there is one."""
    apply_settings(training, trunk)
    set_rate = make_rate_setter(training)
    if fills_state:
        set_rate(0.0)
    stream = IndexStream(workload.batches.sampling_size, seed=trunk.workload.seed)
    for _ in range(trunk.samples // trunk.global_batch_size):
        train_on(workload, training, trunk, stream, [], 1)
        if fills_state and not _has_state(training):
            break  # it keeps none, as plain SGD
    if fills_state:
        set_rate(trunk.learning_rate)


def load_start(workload: Workload, training: Training, path: str, trunk: TrialTask) -> None:
    """Put the training into the file's state, but for the settings of the optimizer.

    One that needs a state and finds none in the file takes the trunk's steps at rate 0: its moments
    then hold gradients at these weights. LBFGS, whose state comes of movement alone, has none.
    """
    groups = training.optimizer.param_groups
    settings = [{k: v for k, v in group.items() if k != "params"} for group in groups]
    load_checkpoint(path, training)
    for group, own in zip(training.optimizer.param_groups, settings, strict=True):
        group.update(own)
    with preserve_buffers(training.model):
        training.settle_gradient_scale(workload.take(range(trunk.micro_batch_size)))
        if not (training.needs_closure or _has_state(training)):
            _train_trunk(workload, training, trunk, fills_state=True)


def _has_state(training: Training) -> bool:
    return any(training.optimizer.state.values())


class _BranchTrainer:
    """Trains branches from the state that the training is in, with held-out losses along them."""

    def __init__(self, workload: Workload, training: Training, task: VerificationTask) -> None:
        self._workload, self._training = workload, training
        held_out, own = workload.data.open_held_out(), workload.batches
        self._sources = [] if held_out is None else [own, held_out]
        self._meter = SharpnessMeter(
            workload,
            training,
            choose_evaluation_samples(own.sampling_size),
            task.sharpness_batch_size,
            loss_is_sum=task.trunk.loss_is_sum,
            takes_all=True,
        )
        self._least_share_s = _LEAST_SHARE_FRACTION * task.budget_s / max(1, len(task.branches))
        self._batch_size = task.trunk.evaluation_batch_size
        self._losses: list[HeldOutEvaluation] = []
        self._failure: str | None = None

    def train(self, task: TrialTask) -> VerificationBranch:
        """Return one branch."""
        (seed,) = task.seeds
        started = time.perf_counter()
        order = task.workload.seed * _SEED_STRIDE + seed + 1
        seed_everything(order % 2**32)
        self._losses, self._failure = [], None
        self._watch(0)
        trained = follow_branch(self._workload, self._training, task, order, watch=self._watch)
        branch = VerificationBranch(
            **msgspec.structs.asdict(replace(trained, seed=seed)),
            held_out=tuple(self._losses),
            held_out_failure=self._failure,
        )
        if has_diverged(branch):
            return branch
        share_s = max(_SHARE_FRACTION * (time.perf_counter() - started), self._least_share_s)
        steps = branch.samples // branch.global_batch_size
        seen = self._meter.measure(steps, share_s, patience=_PATIENCE)
        failure = seen.reason or (None if seen.converged else _NOT_SETTLED)
        sharpness = None if failure else seen.largest_eigenvalue
        return replace(branch, sharpness=sharpness, sharpness_failure=failure)

    def _watch(self, samples: int) -> None:
        """Take both losses in eval mode; a model that has none is not asked again."""
        if not self._sources or self._failure is not None:
            return
        self._training.model.eval()
        try:
            losses = [self._evaluate(batches) for batches in self._sources]
        except Exception as error:
            if is_out_of_memory(error):
                raise
            self._failure = describe(error)
            return
        finally:
            self._training.model.train()
        if all(map(math.isfinite, losses)):
            own, other = losses
            self._losses.append(
                HeldOutEvaluation(samples=samples, train_loss=own, held_out_loss=other)
            )

    def _evaluate(self, batches: Batches) -> float:
        def take(indices: list[int]) -> Any:
            return self._workload.to_device(batches.take(indices))

        chosen = choose_evaluation_samples(batches.sampling_size)
        with torch.no_grad():
            return evaluate(self._workload, self._training, chosen, self._batch_size, take)
