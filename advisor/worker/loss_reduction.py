"""How a loss treats its batch, seen in eval mode without updates.

L(a+b) = (L(a)+L(b))/2   mean        L(a+a) = L(a)    weighted mean, if L(a+b) lies between
L(a+b) =  L(a)+L(b)      sum         otherwise        the samples of a batch are coupled
"""

import math

import torch

from advisor.measurements import LossReduction
from advisor.workload.workload import Workload

#: Samples of each half.
_HALF = 4
#: Two losses that differ by less than this share are equal in float32 arithmetic.
_EQUAL_FRACTION = 1e-5
#: Ratio of L(a+b) to L(a)+L(b) that tells a random mean (0.5) from a random sum (1).
_SUM_RATIO = 0.75


def classify_loss(workload: Workload) -> LossReduction:
    """Return how the loss combines the samples of a batch; `unknown` where it cannot be told."""
    size = workload.batches.size
    if size is not None and size < 2 * _HALF:
        return "unknown"
    # Losses of an untrained model are nearly equal, so the comparison needs all digits of float32.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    training = workload.make_training(precision="fp32")
    training.model.eval()

    def loss(*indices: int) -> float:
        torch.manual_seed(0)
        return training.evaluate(workload.take(indices))

    first, second = range(_HALF), range(_HALF, 2 * _HALF)
    a, b = loss(*first), loss(*second)
    both, doubled = loss(*first, *second), loss(*first, *first)
    if not all(math.isfinite(each) for each in (a, b, both, doubled)):
        return "unknown"
    torch.manual_seed(1)
    if training.evaluate(workload.take(first)) != a:
        # The loss draws random numbers of its own: only the size of the ratio can be told.
        return "sum" if both / (a + b) > _SUM_RATIO else "mean"
    if _equal(both, (a + b) / 2) and _equal(doubled, a):
        return "mean"
    if _equal(both, a + b) and _equal(doubled, 2 * a):
        return "sum"
    slack = _EQUAL_FRACTION * max(abs(a), abs(b))
    if _equal(doubled, a) and min(a, b) - slack <= both <= max(a, b) + slack:
        return "weighted"
    return "coupled"


def _equal(left: float, right: float) -> bool:
    return math.isclose(left, right, rel_tol=_EQUAL_FRACTION, abs_tol=1e-7)
