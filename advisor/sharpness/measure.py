"""The largest eigenvalue of the Hessian at points of a training run, within a share of its time.

    how many samples does the time allow? | point: plain, in the optimizer's metric | point: ...

The samples are chosen once, at the first point, so that the points differ by the parameters alone.
Where a point's share of the time is too short, it is saved for a later point.
"""

import time
from typing import Any

import torch
from torch import Tensor

from advisor.engine.worker.entry import describe
from advisor.noise.data import NoiseTask
from advisor.noise.preconditioner import find_roots, trained_parameters
from advisor.sharpness.data import Curvature
from advisor.sharpness.hessian import HessianProducts, NoSecondDerivativeError
from advisor.sharpness.lanczos import LargestEigenvalue, find_largest_eigenvalue
from advisor.training.model_file.batches import tensors_of
from advisor.training.model_file.data import IndexStream
from advisor.training.model_file.workload import Workload
from advisor.training.out_of_memory import is_out_of_memory
from advisor.training.training import Training

#: Products that one eigenvalue is expected to take; on small networks it took 6 to 18.
EXPECTED_PRODUCTS = 15
#: Share of a point's time that finding out how fast products are may take.
_TRYING_FRACTION = 0.25
#: Samples beyond which the eigenvalue of the whole data is known well enough for a hint.
_MOST_SAMPLES = 2048
#: The batches stay on the host between products; beyond this they would crowd out training's.
MOST_BATCH_BYTES = 256 << 20
#: The micro-batch at most grows by this factor while its speed is tried.
_GROWTH = 8
#: Share of all the time for the curvature that its plan may count on: training may end early.
_PLANNED_FRACTION = 0.5
#: Orders the samples, and draws the first vector.
_SEED = 90_001
#: Characters of an error's text that are kept.
_MOST_TEXT = 200

#: The largest eigenvalue of H, and that in the optimizer's metric.
Found = tuple[LargestEigenvalue | None, LargestEigenvalue | None]

_NO_SECOND = "its backward cannot be differentiated again"


class CurvatureMeter:
    """Measures the curvature at the present parameters, which are left as they are.

    Args:
        workload: Where samples come from.
        training: The run.
        task: Names the sizes of micro-batches for the products, and how the loss treats one.
        sizes: The least and the most samples of one micro-batch.
    """

    def __init__(
        self, workload: Workload, training: Training, task: NoiseTask, sizes: tuple[int, int]
    ) -> None:
        self._workload = workload
        self._training = training
        self._task = task
        self._least, self._most = sizes
        self._size = 0
        self._batches: list[Any] = []
        self._cost_s = 0.0
        self._saved_s = 0.0
        self._obstacle: str | None = None

    def measure(self, step: int, share_s: float) -> Curvature | None:
        """Return the curvature; None where the time is saved for a later point.

        A model that does not allow it is named, never an error.

        Args:
            step: Optimizer steps taken before.
            share_s: This point's seconds.
        """
        started = time.perf_counter()
        self._saved_s += share_s
        deadline = started + self._saved_s
        found: Found = (None, None)
        is_due = False
        try:
            is_due = self._prepare(share_s)
            if is_due and self._obstacle is None:
                found = self._find_eigenvalues(deadline)
        except Exception as error:  # noqa: BLE001 - whatever the model does twice is its own
            self._obstacle = name_obstacle(error)
        elapsed_s = time.perf_counter() - started
        self._saved_s = max(0.0, self._saved_s - elapsed_s)
        if self._obstacle is None and not is_due:
            return None
        plain, own = found
        return Curvature(
            at_step=step,
            samples=self._size * len(self._batches),
            micro_batch_size=self._size,
            largest_eigenvalue=None if plain is None else plain.value,
            preconditioned_eigenvalue=None if own is None else own.value,
            products=sum(each.products for each in found if each is not None),
            converged=plain is not None and plain.converged,
            preconditioned_converged=own is not None and own.converged,
            elapsed_s=elapsed_s,
            reason=self._obstacle or name_shortage(*found),
        )

    def _prepare(self, share_s: float) -> bool:
        """Return whether the time saved is enough to measure now."""
        if self._obstacle is None and not self._batches:
            self._choose_batches(share_s)
        return self._cost_s <= self._saved_s

    def _find_eigenvalues(self, deadline: float) -> Found:
        """Return the largest eigenvalue of H, and of P^½ H P^½ where the optimizer has a P."""
        hessian = self._build_products(self._size, self._batches)
        roots = find_roots(trained_parameters(self._training), self._training.optimizer)
        left_s = deadline - time.perf_counter()
        first_deadline = deadline if roots is None else deadline - left_s / 2
        found = find_largest_eigenvalue(
            hessian.multiply, make_start(hessian), deadline=first_deadline
        )
        if roots is None:
            return found, None
        root = torch.cat([each.flatten() for each in roots]).to(hessian.device, hessian.dtype)
        # The metric is that of the loss as training takes it: of the sum where it is a sum.
        factor = self._task.micro_batch_size if self._task.loss_is_sum else 1

        def multiply(vector: Tensor) -> Tensor:
            return hessian.multiply(vector * root).mul_(root).mul_(factor)

        own = find_largest_eigenvalue(
            multiply, make_start(hessian).mul_(root > 0.0), deadline=deadline
        )
        return found, own

    def _choose_batches(self, share_s: float) -> None:
        """Choose the micro-batch and as many of it as a point's time is expected to allow.

        Where that is not even the least, the time of several points is put together.
        """
        available = self._workload.batches.sampling_size or _MOST_SAMPLES
        most = max(min(_MOST_SAMPLES, available), self._least)
        size = self._round(min(self._task.micro_batch_size, self._most))
        trying_ends = time.perf_counter() + share_s * _TRYING_FRACTION
        while True:
            sample_s = self._time_product(size) / size * EXPECTED_PRODUCTS * self._spectra()
            affordable = int(share_s / sample_s)
            larger = self._round(min(self._most, affordable, size * _GROWTH, most))
            if larger <= size or time.perf_counter() > trying_ends:
                break
            size = larger
        if affordable < size:
            whole_s = share_s * len(self._task.points) * _PLANNED_FRACTION
            size = self._round(min(size, int(whole_s / sample_s)))
        count = max(1, min(affordable, most) // size)
        self._size, self._cost_s = size, sample_s * size * count
        self._batches = self._take(size, count)
        if sample_s * size > share_s * len(self._task.points):
            self._obstacle = (
                f"it would take about {self._cost_s:.2g} s for {size} samples, more than its share "
                "of the time"
            )

    def _round(self, samples: int) -> int:
        """Return the next lower size that may run, the least at least."""
        return max(samples // self._least, 1) * self._least

    def _spectra(self) -> int:
        return 1 if isinstance(self._training.optimizer, torch.optim.SGD) else 2

    def _time_product(self, size: int) -> float:
        return time_product(self._build_products(size, self._take(size, 1)))

    def _take(self, size: int, count: int) -> list[Any]:
        """Return up to `count` batches on the host, always the same ones."""
        stream = IndexStream(self._workload.batches.sampling_size, seed=_SEED)
        batches: list[Any] = []
        held_bytes = 0
        while len(batches) < count and held_bytes < MOST_BATCH_BYTES:
            batches.append(self._workload.batches.take(stream.next(size)))
            held_bytes += sum(tensor.nbytes for tensor in tensors_of(batches[-1]))
        return batches

    def _build_products(self, size: int, batches: list[Any]) -> HessianProducts:
        return HessianProducts(
            self._training,
            batches,
            to_device=self._workload.to_device,
            divisor=float(size) if self._task.loss_is_sum else 1.0,
            is_compiled=self._task.workload.compile,
        )


def make_start(hessian: HessianProducts) -> Tensor:
    """Return a random vector, the same at every point and on every device."""
    generator = torch.Generator().manual_seed(_SEED)
    return torch.randn(hessian.size, generator=generator).to(hessian.device, hessian.dtype)


def time_product(hessian: HessianProducts) -> float:
    """Return the seconds of one product, the better of two."""
    vector, times = make_start(hessian), []
    for _ in range(2):
        began = time.perf_counter()
        float(hessian.multiply(vector).sum())  # waits for the device
        times.append(time.perf_counter() - began)
    return min(times)


def name_obstacle(error: Exception) -> str:
    """Return why the products could not be taken, in one line."""
    if is_out_of_memory(error):
        return "differentiating its gradient needs more memory than there is"
    if isinstance(error, NoSecondDerivativeError):
        return f"{_NO_SECOND}: {error}"
    text = describe(error)
    text = text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}..."
    return f"{_NO_SECOND}: {text}"


def name_shortage(*found: LargestEigenvalue | None) -> str | None:
    """Return why a value is missing, None where none is."""
    missing = [each for each in found if each is not None and each.value is None]
    if any(not each.is_symmetric for each in missing):
        return (
            f"{_NO_SECOND}: its second derivatives are not symmetric or not finite, so that some "
            "backward hides a part of them"
        )
    return "there was no time left for it" if missing else None
