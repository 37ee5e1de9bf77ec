"""The largest eigenvalue of the Hessian at the end of a branch, on samples that never change.

The matrix is that of the loss which a branch is evaluated by: the same samples, train mode, equal
micro-batches of one size for all branches, since BatchNorm sees the batch. So branches differ by
their parameters alone.
"""

import time
from typing import Any, NamedTuple

from advisor.engine.worker.entry import seed_everything
from advisor.rate.measure import choose_evaluation_samples
from advisor.sharpness.hessian import HessianProducts, fixed_conditions
from advisor.sharpness.lanczos import find_largest_eigenvalue
from advisor.sharpness.measure import (
    EXPECTED_PRODUCTS,
    MOST_BATCH_BYTES,
    make_start,
    name_obstacle,
    name_shortage,
    time_product,
)
from advisor.training.model_file.batches import tensors_of
from advisor.training.model_file.workload import Workload
from advisor.training.training import Training
from advisor.verify.data import VerificationTask

#: Share of a branch's own time that the sharpness at its end is expected to take at most ...
BRANCH_FRACTION = 0.2
#: ... unless it is that short beside the time left for all branches: small models train for
#: milliseconds, and their sharpness is still worth having.
BUDGET_FRACTION = 0.05
#: It is given up after this many times what it may take: the products it needs are not known.
_PATIENCE = 2.0
#: Seeds what a dataset draws while the samples are read.
_SEED = 90_002

_TOO_LARGE = "differentiating its gradient is not expected to fit into memory"


class Sharpness(NamedTuple):
    """The eigenvalue, or why there is none."""

    value: float | None
    failure: str | None


class SharpnessMeter:
    """Measures at the present parameters; model, optimizer and random state stay as they are.

    Args:
        workload: Where samples come from.
        training: Every branch's.
        task: Names the size of micro-batches, and how the loss treats one.
    """

    def __init__(self, workload: Workload, training: Training, task: VerificationTask) -> None:
        self._workload = workload
        self._training = training
        self._is_sum = task.trunk.loss_is_sum
        self._size = task.sharpness_batch_size or 0
        self._floor_s = BUDGET_FRACTION * task.budget_s / max(1, len(task.branches))
        self._batches: list[Any] = []
        self._cost_s: float | None = None
        self._obstacle = None if self._size else _TOO_LARGE

    def measure(self, branch_s: float) -> Sharpness:
        """Return the largest eigenvalue; a model that does not allow it is never an error.

        Args:
            branch_s: Seconds that the branch took.
        """
        share_s = max(BRANCH_FRACTION * branch_s, self._floor_s)
        if self._obstacle is None:
            try:
                return self._find(share_s)
            except Exception as error:  # noqa: BLE001 - whatever the model does twice is its own
                self._obstacle = name_obstacle(error)
                self._batches = []
        return Sharpness(None, self._obstacle)

    def _find(self, share_s: float) -> Sharpness:
        if not self._batches:
            self._batches = self._take()
        if self._cost_s is None:
            self._cost_s = self._time_product() * len(self._batches) * EXPECTED_PRODUCTS
        if self._cost_s > share_s:
            return Sharpness(
                None, f"it would take about {self._cost_s:.2g} s, more than its share of the time"
            )
        hessian = self._build(self._batches)
        deadline = time.perf_counter() + _PATIENCE * share_s
        found = find_largest_eigenvalue(hessian.multiply, make_start(hessian), deadline=deadline)
        if found.value is None:
            return Sharpness(None, name_shortage(found))
        if not found.converged:
            return Sharpness(None, "it had not settled when its share of the time was over")
        return Sharpness(found.value, None)

    def _take(self) -> list[Any]:
        """Return equal batches of the evaluation samples, on the host."""
        indices = choose_evaluation_samples(self._workload.batches.sampling_size)
        size = min(self._size, len(indices))
        batches: list[Any] = []
        held_bytes = 0
        with fixed_conditions(self._training):
            seed_everything(_SEED)
            for start in range(0, len(indices) - size + 1, size):
                batches.append(self._workload.batches.take(indices[start : start + size]))
                held_bytes += sum(tensor.nbytes for tensor in tensors_of(batches[-1]))
                if held_bytes >= MOST_BATCH_BYTES:
                    break
        self._size = size
        return batches

    def _time_product(self) -> float:
        return time_product(self._build(self._batches[:1]))

    def _build(self, batches: list[Any]) -> HessianProducts:
        return HessianProducts(
            self._training,
            batches,
            to_device=self._workload.to_device,
            divisor=float(self._size) if self._is_sum else 1.0,
            is_compiled=self._workload.spec.compile,
        )
