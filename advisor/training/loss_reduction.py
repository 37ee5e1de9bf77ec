"""How a loss combines the samples of its batch, and over which tokens it averages.

Seen in eval mode without updates, of lots a and b of a dataset:

L(ab) = (L(a)+L(b))/2   mean        L(aa) = L(a)    weighted mean, if L(ab) lies between
L(ab) =  L(a)+L(b)      sum         otherwise       the samples of a batch are coupled

A mean over tokens obeys L(ab)·(n_a + n_b) = L(a)·n_a + L(b)·n_b for its own counts n and no others.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch

from advisor.training.data import LossReduction, TokenCount
from advisor.training.model_file.batches import tensors_of
from advisor.training.model_file.workload import Workload
from advisor.training.training import Training

#: Least samples of each lot, and how many pairs of lots must agree on a count of tokens.
_LOT, _PAIRS = 4, 3
#: Two losses that differ by less than this share are equal in float32 arithmetic.
_EQUAL_FRACTION = 1e-5
#: Ratio of L(ab) to L(a)+L(b) that tells a random mean (0.5) from a random sum (1).
_SUM_RATIO = 0.75
#: A count explains a loss where it misses it by less than this share, and by this factor less than
#: counting samples alike does.
_MISFIT_FRACTION, _CLEAR_FACTOR = 2e-5, 4.0
#: Values by which padding is told: torch's default for targets, and that of masks and most inputs.
_IGNORED = (-100, 0)
#: Samples looked at for the mean number of tokens.
_LOOKED_AT = 64
_INTEGERS = (torch.int64, torch.int32)


def classify_loss(workload: Workload, batch_multiple: int = 1) -> LossReduction:
    """Return how the loss combines the samples of a batch; `unknown` where it cannot be told.

    Args:
        workload: With a dataset.
        batch_multiple: Only multiples of this size are run.
    """
    lots = _list_lots(workload, batch_multiple, 2)
    if lots is None:
        return "unknown"
    # Losses of an untrained model are nearly equal, so the comparison needs all digits of float32.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    training, (first, second) = _make_evaluated(workload), lots
    a, b, both, doubled = (
        _loss_of(training, workload.take(indices))
        for indices in (first, second, first + second, first + first)
    )
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


def count_tokens(batch: Any, rule: TokenCount) -> float:
    """Return the tokens of the batch that count."""
    tensor = next(itertools.islice(tensors_of(batch), rule.tensor, None))
    targets = tensor[..., 1:] if rule.is_shifted else tensor
    return float((targets != rule.ignored).sum())


def find_token_count(workload: Workload, batch_multiple: int = 1) -> TokenCount | None:
    """Return the count that explains how the loss weighs its samples; None where none does.

    Args:
        workload: With a dataset, and a loss that is a weighted mean.
        batch_multiple: Only multiples of this size are run.
    """
    lots = _list_lots(workload, batch_multiple, 2 * _PAIRS)
    if lots is None:
        return None
    training = _make_evaluated(workload)
    batches = [
        tuple(map(workload.take, (a, b, a + b))) for a, b in zip(lots[::2], lots[1::2], strict=True)
    ]
    losses = [tuple(_loss_of(training, batch) for batch in triple) for triple in batches]
    alike = _misfit(losses, [(1.0, 1.0)] * _PAIRS)
    for rule in _list_rules(batches[0][2]):
        counts = [(count_tokens(a, rule), count_tokens(b, rule)) for a, b, _ in batches]
        if _misfit(losses, counts) < min(_MISFIT_FRACTION, alike / _CLEAR_FACTOR):
            return rule
    return None


def measure_tokens_per_sample(workload: Workload) -> float | None:
    """Return the mean number of target tokens of a sample; None where the batch holds no tokens.

    Tokens are the elements, other than −100, of the last integer tensor with a second dimension.
    """
    if workload.dataset is None:
        return None
    count = min(_LOOKED_AT, workload.batches.size or _LOOKED_AT)
    batch = workload.take(range(count))
    places = [
        place
        for place, tensor in enumerate(tensors_of(batch))
        if tensor.dtype in _INTEGERS and tensor.dim() == 2 and tensor.shape[0] == count
    ]
    if not places:
        return None
    return count_tokens(batch, TokenCount(tensor=places[-1], ignored=_IGNORED[0])) / count


def _list_lots(workload: Workload, batch_multiple: int, count: int) -> list[list[int]] | None:
    """Return the samples of so many lots; None where the dataset has fewer."""
    lot, size = math.ceil(_LOT / batch_multiple) * batch_multiple, workload.batches.size
    if size is not None and size < count * lot:
        return None
    return [list(range(k * lot, (k + 1) * lot)) for k in range(count)]


def _make_evaluated(workload: Workload) -> Training:
    training = workload.make_training(precision="fp32")
    training.model.eval()
    return training


def _loss_of(training: Training, batch: Any, *, seed: int = 0) -> float:
    torch.manual_seed(seed)
    return training.evaluate(batch)


def _classify_random(both: float, added: float) -> LossReduction:
    """Return what the ratio tells of a loss that draws random numbers of its own."""
    if added == 0:
        return "unknown"
    return "sum" if both / added > _SUM_RATIO else "mean"


def _equal(left: float, right: float) -> bool:
    return math.isclose(left, right, rel_tol=_EQUAL_FRACTION, abs_tol=1e-7)


def _list_rules(batch: Any) -> Iterator[TokenCount]:
    """Yield every count that there is to try, those of later tensors first: targets come last."""
    tensors = list(enumerate(tensors_of(batch)))
    for ignored, (place, tensor) in itertools.product(_IGNORED, reversed(tensors)):
        if tensor.is_floating_point() or tensor.is_complex() or tensor.dim() < 2:
            continue
        for is_shifted in (False, True):
            yield TokenCount(tensor=place, ignored=ignored, is_shifted=is_shifted)


def _misfit(losses: list[tuple[float, ...]], counts: list[tuple[float, float]]) -> float:
    """Return by which share the weighted mean of two lots misses the loss of both, at worst."""
    return max(
        abs(loss_a * n_a + loss_b * n_b - both * (n_a + n_b)) / (abs(both) * (n_a + n_b))
        if both and n_a + n_b
        else math.inf
        for (loss_a, loss_b, both), (n_a, n_b) in zip(losses, counts, strict=True)
    )
