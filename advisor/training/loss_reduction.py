"""How a loss combines the samples of its batch, and over which tokens it averages.

Seen in eval mode without updates, of lots a and b that are cut out of one collated batch, so that
both are padded alike and hold the same samples each time:

L(ab) = (L(a)+L(b))/2   mean        L(a)+L(b)−L(ab) = 2L(a)−L(aa)   sum, and a constant beside it
L(aa) = L(a)    weighted mean, if L(ab) lies between                otherwise   samples are coupled

A mean over tokens obeys L(ab)·(n_a + n_b) = L(a)·n_a + L(b)·n_b for its own counts n and no others.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import register_module_forward_hook

from advisor.training.compilation import silence_hooks
from advisor.training.data import LossReduction, TokenCount
from advisor.training.device_failure import is_out_of_memory
from advisor.training.model_file.batches import map_tensors, pick_rows, tensors_of
from advisor.training.model_file.data import DatasetBatches
from advisor.training.model_file.foreign import parameters_in
from advisor.training.model_file.workload import Workload
from advisor.training.training import Training

#: Least samples of each lot, and how many pairs of lots must agree on a count of tokens.
_LOT, _PAIRS = 4, 3
#: Two losses that differ by less than this share are equal in float32 arithmetic, and where the
#: model itself computes in 16 bits.
_EQUAL_FRACTION, _EQUAL_FRACTION_16_BIT = 1e-5, 1e-2
_16_BIT = (torch.bfloat16, torch.float16)
#: Seeds over which a loss that draws random numbers is averaged.
_SEEDS = 8
#: Ratio of L(aa) to 2·L(a) that tells a random mean (0.5) from a random sum (1).
_SUM_RATIO = 0.75
#: A count explains a loss where it misses it by less than this share, and by this factor less than
#: counting samples alike does.
_MISFIT_FRACTION, _CLEAR_FACTOR = 2e-5, 4.0
#: Values by which padding is told: torch's default for targets, and that of masks and most inputs.
_IGNORED = (-100, 0)
#: Samples looked at for the mean number of tokens.
_LOOKED_AT = 64
_INTEGERS = (torch.int64, torch.int32)

_Give = Callable[[Sequence[int]], Any]


def classify_loss(workload: Workload, batch_multiple: int = 1) -> LossReduction:
    """Return how the loss combines the samples of a batch; `unknown` where it cannot be told.

    The workload has a dataset; only multiples of `batch_multiple` are run.
    """
    lot = _size_lot(workload, batch_multiple, 2)
    if lot is None:
        return "unknown"
    # Losses of an untrained model are nearly equal, so the comparison needs all digits of float32.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    first, second = [*range(lot)], [*range(lot, 2 * lot)]
    samples = _Samples(workload, 2 * lot)
    a, b, both, doubled = samples.losses([first, second, first + second, first + first])
    if not all(math.isfinite(each) for each in (a, b, both, doubled)):
        return "unknown"

    def equal(left: float, right: float) -> bool:
        slack = samples.equal_fraction * max(abs(a), abs(b), abs(both), abs(doubled))
        return abs(left - right) <= max(slack, 1e-7)

    if not equal(samples.losses([first], seed=1)[0], a):
        drawn = [samples.losses([first, first + first], seed=seed) for seed in range(_SEEDS)]
        return _classify_random(sum(pair[1] for pair in drawn), 2 * sum(pair[0] for pair in drawn))
    if equal(both, (a + b) / 2) and equal(doubled, a):
        return "mean"
    if equal(doubled, a):
        between = min(a, b) <= both <= max(a, b) or equal(both, a) or equal(both, b)
        return "weighted" if between else "coupled"
    return "sum" if equal(a + b - both, 2 * a - doubled) else "coupled"


def count_tokens(batch: Any, rule: TokenCount) -> float:
    """Return the tokens of the batch that count."""
    tensor = next(itertools.islice(tensors_of(batch), rule.tensor, None))
    targets = tensor[..., 1:] if rule.is_shifted else tensor
    return float((targets != rule.ignored).sum())


def find_token_count(workload: Workload, batch_multiple: int = 1) -> TokenCount | None:
    """Return the count that explains how the loss weighs its samples; None where none does.

    The loss is a weighted mean; only multiples of `batch_multiple` are run.
    """
    lot = _size_lot(workload, batch_multiple, 2 * _PAIRS)
    if lot is None:
        return None
    samples = _Samples(workload, 2 * _PAIRS * lot)
    pairs = [range(start, start + 2 * lot) for start in range(0, 2 * _PAIRS * lot, 2 * lot)]
    triples = [(pair[:lot], pair[lot:], pair) for pair in pairs]
    losses = [tuple(samples.losses(triple)) for triple in triples]
    batches = [tuple(map(samples.give, triple)) for triple in triples]
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
    if workload.data.dataset is None:
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
    tokens = count_tokens(batch, TokenCount(tensor=places[-1], ignored=_IGNORED[0]))
    return tokens / count if tokens else None  # a prompt may fill a sample, its answer cut off


def _size_lot(workload: Workload, batch_multiple: int, count: int) -> int | None:
    """Return the samples of a lot; None where the dataset has not so many lots."""
    lot, size = math.ceil(_LOT / batch_multiple) * batch_multiple, workload.batches.size
    return None if size is not None and size < count * lot else lot


class _Samples:
    """The first samples of the dataset, read once, and the losses of any of them."""

    def __init__(self, workload: Workload, count: int) -> None:
        assert isinstance(workload.batches, DatasetBatches)
        self.equal_fraction = _EQUAL_FRACTION
        self._workload, self._source = workload, workload.batches
        self._samples = self._source.read(range(count))
        self._ways = self._list_ways()
        self._training, self._give = next(self._ways)

    def give(self, places: Sequence[int]) -> Any:
        """Return the batch of the samples at these places."""
        return self._workload.to_device(self._give(places))

    def losses(self, groups: Sequence[Sequence[int]], *, seed: int = 0) -> list[float]:
        """Return the loss of each group of places, all seen in the first way that runs."""
        while True:
            try:
                return [self._loss_of(places, seed) for places in groups]
            except Exception as error:
                way = None if is_out_of_memory(error) else next(self._ways, None)
                if way is None:
                    raise
                self._training, self._give = way

    def _list_ways(self) -> Iterator[tuple[Training, _Give]]:
        """Yield trainings in eval mode and what gives their batches; the first tell the most."""
        count = len(self._samples)
        gives: list[_Give] = [lambda places: pick_rows(*self._lots, places, count), self._collate]
        training = self._workload.make_training(precision="fp32")
        training.model.eval()
        if any(each.dtype in _16_BIT for each in parameters_in(training.model)):
            exact = self._workload.make_training(precision="fp32")
            exact.model.eval().float()
            yield from ((exact, lambda places, give=give: _widen(give(places))) for give in gives)
        yield from itertools.product([training], gives)
        training.model.train(True)  # where detectors have their loss alone
        for module in training.model.modules():  # statistics of the batch would couple its samples
            if isinstance(module, _BatchNorm) and module.track_running_stats:
                module.eval()
        yield from itertools.product([training], gives)

    def _loss_of(self, places: Sequence[int], seed: int) -> float:
        batch = self.give(places)
        torch.manual_seed(seed)
        self._training.forget()
        silence_hooks()
        with register_module_forward_hook(self._note_precision):
            return self._training.evaluate(batch)

    def _note_precision(self, _module: nn.Module, _inputs: object, output: object) -> None:
        if any(each.dtype in _16_BIT for each in tensors_of(output)):
            self.equal_fraction = _EQUAL_FRACTION_16_BIT

    def _collate(self, places: Sequence[int]) -> Any:
        return self._source.collate([self._samples[place] for place in places])

    @functools.cached_property
    def _lots(self) -> tuple[Any, Any, Any]:
        """All samples, the first so many times, and twice as often."""
        count = len(self._samples)
        return (
            self._collate(range(count)),
            self._collate([0] * count),
            self._collate([0] * 2 * count),
        )


def _widen(batch: Any) -> Any:
    """Return the batch with its numbers of 16 bits in float32."""
    return map_tensors(batch, lambda each: each.float() if each.dtype in _16_BIT else each)


def _classify_random(both: float, added: float) -> LossReduction:
    """Return what the ratio tells of a loss that draws random numbers of its own."""
    if added == 0:
        return "unknown"
    return "sum" if both / added > _SUM_RATIO else "mean"


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
