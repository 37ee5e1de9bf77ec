"""The sharpness at the present parameters, over samples that never change, in a share of the time.

They are chosen at the first point, so that points and branches differ by their parameters alone.
"""

import time
import timeit
from collections.abc import Sequence
from typing import Any

import torch

from advisor.engine.worker.emitter import Emit
from advisor.engine.worker.failure import describe
from advisor.memory.measure import catch_out_of_memory
from advisor.noise.measure import visit
from advisor.noise.measure_metric import find_metric, trained_parameters
from advisor.sharpness.data import Sharpness, SharpnessTask
from advisor.sharpness.measure_eigenvalue import (
    HessianProducts,
    LargestEigenvalue,
    NoSecondDerivativeError,
    find_largest_eigenvalue,
    fixed_conditions,
)
from advisor.training.device_failure import is_out_of_memory
from advisor.training.heap import keep_freed_memory
from advisor.training.model_file.batches import tensors_of
from advisor.training.model_file.order import IndexStream, seed_everything
from advisor.training.model_file.workload import Workload
from advisor.training.training import Training

#: Products that one eigenvalue is expected to take; on small networks it took 8 to 33.
EXPECTED_PRODUCTS = 25
#: Samples beyond which the eigenvalue of the whole data is known well enough for a hint.
_MOST_SAMPLES = 2048
#: The batches stay on the host between products; beyond this they would crowd out training's.
MOST_BATCH_BYTES = 256 << 20
#: Orders the samples, and draws the first vector and what a dataset draws.
_SEED = 90_001
#: Characters of an error's text that are kept.
_MOST_TEXT = 200

#: What is not sought.
_NONE = LargestEigenvalue(None, 0)
_NO_SECOND = "its backward cannot be differentiated again"
_TOO_LARGE = "differentiating its gradient is not expected to fit into memory"


def run(task: SharpnessTask, emit: Emit[Sharpness]) -> None:
    """Emit the sharpness at each point of the trajectory that time and memory allow."""
    workload, path = Workload(task.workload), task.trajectory
    keep_freed_memory(workload.device)
    size = workload.batches.sampling_size
    indices = IndexStream(size, seed=_SEED).next(min(_MOST_SAMPLES, size or _MOST_SAMPLES))
    meter = None
    with catch_out_of_memory():
        for place in visit(workload, path):
            if meter is None:  # each checkpoint has a training of its own
                meter = SharpnessMeter(
                    workload,
                    place.training,
                    indices,
                    task.micro_batch_size,
                    loss_is_sum=path.loss_is_sum,
                    training_batch_size=path.micro_batch_size * path.gradient_accumulation_steps,
                )
            at_step, share_s = place.at_step, place.share_s
            del place  # beside the next checkpoint's training there may be no room for it
            emit(meter.measure(at_step, share_s))
            if path.checkpoints:
                meter = None


class SharpnessMeter:
    """Measures over some samples; model, optimizer and random state stay as they are.

    Without a micro-batch none is expected to fit, without a training batch the optimizer's metric
    is left out. Fewer samples may be taken, unless `takes_all`.
    """

    def __init__(
        self,
        workload: Workload,
        training: Training,
        indices: Sequence[int],
        micro_batch_size: int | None,
        *,
        loss_is_sum: bool,
        training_batch_size: int | None = None,
        takes_all: bool = False,
    ) -> None:
        self._workload, self._training, self._indices = workload, training, indices
        self._size = min(micro_batch_size or 0, len(indices))
        self._is_sum, self._takes_all = loss_is_sum, takes_all
        self._training_size = training_batch_size
        self._batches: list[Any] = []
        self._cost_s = 0.0
        self._obstacle = None if micro_batch_size else _TOO_LARGE

    def measure(self, step: int, share_s: float, *, patience: float = 1.0) -> Sharpness:
        """Return the sharpness; what the model does not allow is a reason, never an error.

        It is left out where it is expected to take more than `share_s`, and given up after
        `patience` times as long.
        """
        deadline = time.perf_counter() + patience * share_s
        plain = own = _NONE
        try:
            reason = self._obstacle or self._prepare(share_s)
            if reason is None:
                plain, own = self._find_eigenvalues(deadline)
                reason = _name_shortage(plain, own)
        except Exception as error:  # noqa: BLE001 - whatever the model does twice is its own
            reason = self._obstacle = _name_obstacle(error)
            self._batches = []
        return Sharpness(
            at_step=step,
            samples=self._size * len(self._batches),
            micro_batch_size=self._size,
            largest_eigenvalue=plain.value,
            preconditioned_eigenvalue=own.value,
            products=plain.products + own.products,
            converged=plain.converged,
            preconditioned_converged=own.converged,
            reason=reason,
        )

    def _prepare(self, share_s: float) -> str | None:
        """Take the batches, once; return why they cannot be measured in this time."""
        if not self._batches:
            is_plain = isinstance(self._training.optimizer, torch.optim.SGD)
            spectra = 1 if is_plain or self._training_size is None else 2
            each_s = self._time_product() * EXPECTED_PRODUCTS * spectra
            count = len(self._indices) // self._size
            if not self._takes_all:
                count = max(1, min(count, int(share_s / each_s)))
            self._batches = self._take(count)
            self._cost_s = each_s * len(self._batches)
        if self._cost_s <= share_s:
            return None
        samples = self._size * len(self._batches)
        return (
            f"it would take about {self._cost_s:.2g} s for {samples} samples, more than its share "
            "of the time"
        )

    def _time_product(self) -> float:
        """Return the seconds of a product over one micro-batch, the better of two."""
        hessian = self._build(self._take(1))
        vector = hessian.make_start(_SEED)
        times = timeit.repeat(lambda: float(hessian.multiply(vector).sum()), repeat=2, number=1)
        return min(times)  # the sum waits for the device

    def _find_eigenvalues(self, deadline: float) -> tuple[LargestEigenvalue, LargestEigenvalue]:
        """Return the largest eigenvalue of H, and of P^½ H P^½ where that is asked and is a P."""
        hessian, size, root = self._build(self._batches), self._training_size, None
        if size is not None:
            root = find_metric(trained_parameters(self._training), self._training.optimizer)
        half_s = 0.0 if root is None else (deadline - time.perf_counter()) / 2
        plain = find_largest_eigenvalue(
            hessian.multiply, hessian.make_start(_SEED), deadline=deadline - half_s
        )
        if root is None or size is None:
            return plain, _NONE
        root = root.to(hessian.device, hessian.dtype)
        # The metric is that of the loss as training takes it: of the sum where it is a sum.
        factor = size if self._is_sum else 1
        own = find_largest_eigenvalue(
            lambda vector: hessian.multiply(vector * root).mul_(root).mul_(factor),
            hessian.make_start(_SEED).mul_(root > 0.0),
            deadline=deadline,
        )
        return plain, own

    def _take(self, count: int) -> list[Any]:
        """Return up to `count` batches on the host, always the same ones."""
        batches, held_bytes = list[Any](), 0
        with fixed_conditions(self._training):
            seed_everything(_SEED)
            for start in range(0, self._size * count, self._size):
                if held_bytes >= MOST_BATCH_BYTES:
                    break
                part = self._indices[start : start + self._size]
                batches.append(self._workload.batches.take(part))
                held_bytes += sum(tensor.nbytes for tensor in tensors_of(batches[-1]))
        return batches

    def _build(self, batches: list[Any]) -> HessianProducts:
        divisor = float(self._size) if self._is_sum else 1.0
        return HessianProducts(self._training, batches, divisor=divisor)


def _name_obstacle(error: Exception) -> str:
    if is_out_of_memory(error):
        return "differentiating its gradient needs more memory than there is"
    text = str(error) if isinstance(error, NoSecondDerivativeError) else describe(error)
    return f"{_NO_SECOND}: {text[:_MOST_TEXT]}{'...' * (len(text) > _MOST_TEXT)}"


def _name_shortage(*found: LargestEigenvalue) -> str | None:
    missing = [each for each in found if each.value is None and each is not _NONE]
    if any(not each.is_symmetric for each in missing):
        return (
            f"{_NO_SECOND}: its second derivatives are not symmetric or not finite, so that some "
            "backward hides a part of them"
        )
    return "there was no time left for it" if missing else None
