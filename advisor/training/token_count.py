"""The tokens that a loss averages over, found by trying which count explains its ragged batches.

A mean over tokens obeys L(ab)·(n_a + n_b) = L(a)·n_a + L(b)·n_b for its own counts n and no others.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch

from advisor.training.data import TokenCount
from advisor.training.model_file.batches import tensors_of
from advisor.training.model_file.workload import Workload
from advisor.training.training import Training

#: Least samples of each lot, and how many pairs of lots must agree.
_LOT, _PAIRS = 4, 3
#: A count explains a loss where it misses it by less than this share, and by this factor less than
#: counting samples alike does.
_EQUAL_FRACTION, _CLEAR_FACTOR = 2e-5, 4.0
#: Values by which padding is told: torch's default for targets, and that of masks and most inputs.
_IGNORED = (-100, 0)
#: Samples looked at for the mean number of tokens.
_LOOKED_AT = 64
_INTEGERS = (torch.int64, torch.int32)


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
    lot = math.ceil(_LOT / batch_multiple) * batch_multiple
    size = workload.batches.size
    if size is not None and size < 2 * lot * _PAIRS:
        return None
    training = workload.make_training(precision="fp32")
    training.model.eval()
    lots = [range(k * lot, (k + 1) * lot) for k in range(2 * _PAIRS)]
    batches = [
        tuple(map(workload.take, ([*a], [*b], [*a, *b])))
        for a, b in zip(lots[::2], lots[1::2], strict=True)
    ]
    losses = [tuple(_evaluate(training, batch) for batch in triple) for triple in batches]
    alike = _misfit(losses, [(1.0, 1.0)] * _PAIRS)
    for rule in _list_rules(batches[0][2]):
        counts = [(count_tokens(a, rule), count_tokens(b, rule)) for a, b, _ in batches]
        if _misfit(losses, counts) < min(_EQUAL_FRACTION, alike / _CLEAR_FACTOR):
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


def _evaluate(training: Training, batch: Any) -> float:
    torch.manual_seed(0)
    return training.evaluate(batch)
