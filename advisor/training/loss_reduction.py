"""How a loss treats its batch, seen in eval mode without updates.

L(a+b) = (L(a)+L(b))/2   mean        L(a+a) = L(a)    weighted mean, if L(a+b) lies between
L(a+b) =  L(a)+L(b)      sum         otherwise        the samples of a batch are coupled
"""

import math

import torch

from advisor.training.data import LossReduction
from advisor.training.model_file.workload import Workload
from advisor.training.training import Training

#: Least samples of each half.
_HALF = 4
#: Two losses that differ by less than this share are equal in float32 arithmetic.
_EQUAL_FRACTION = 1e-5
#: Ratio of L(a+b) to L(a)+L(b) that tells a random mean (0.5) from a random sum (1).
_SUM_RATIO = 0.75


def classify_loss(workload: Workload, batch_multiple: int = 1) -> LossReduction:
    """Return how the loss combines the samples of a batch; `unknown` where it cannot be told.

    Args:
        workload: With a dataset.
        batch_multiple: Only multiples of this size are run.
    """
    size = workload.batches.size
    half = math.ceil(_HALF / batch_multiple) * batch_multiple
    if size is not None and size < 2 * half:
        return "unknown"
    # Losses of an untrained model are nearly equal, so the comparison needs all digits of float32.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    training = workload.make_training(precision="fp32")
    training.model.eval()

    def loss(*indices: int) -> float:
        return _loss_of(training, workload.take(indices), seed=0)

    first, second = range(half), range(half, 2 * half)
    a, b = loss(*first), loss(*second)
    both, doubled = loss(*first, *second), loss(*first, *first)
    if not all(math.isfinite(each) for each in (a, b, both, doubled)):
        return "unknown"
    if _loss_of(training, workload.take(first), seed=1) != a:
        return _classify_random(both, a + b)
    if _equal(both, (a + b) / 2) and _equal(doubled, a):
        return "mean"
    if _equal(both, a + b) and _equal(doubled, 2 * a):
        return "sum"
    slack = _EQUAL_FRACTION * max(abs(a), abs(b))
    if _equal(doubled, a) and min(a, b) - slack <= both <= max(a, b) + slack:
        return "weighted"
    return "coupled"


def _loss_of(training: Training, batch: object, *, seed: int) -> float:
    torch.manual_seed(seed)
    return training.evaluate(batch)


def _classify_random(both: float, added: float) -> LossReduction:
    """Return what the ratio tells of a loss that draws random numbers of its own."""
    if added == 0:
        return "unknown"
    return "sum" if both / added > _SUM_RATIO else "mean"


def _equal(left: float, right: float) -> bool:
    return math.isclose(left, right, rel_tol=_EQUAL_FRACTION, abs_tol=1e-7)
