"""The critical batch as training measured it: how large a batch may be at no loss of samples."""

import math
from collections.abc import Sequence

import msgspec

from advisor.statistics import two_sided_t
from advisor.verify.data import CriticalBatch
from advisor.verify.groups import BatchBranches, Comparison, Standing, compare_batches

#: Most seeds worth naming: where more are needed, longer branches are the better answer.
_MOST_SEEDS = 200


def judge_batches(
    groups: Sequence[BatchBranches], samples: int
) -> tuple[dict[int, Standing], CriticalBatch]:
    """Return where every batch stands after so many samples, and the critical batch.

    It is the largest batch whose mean excess is within the margin. The answer is inconclusive where
    a batch in doubt has an interval wider than the margin on either side, unless it is the only one
    between a batch that holds and the first that fails: then these two are the interval's ends.

    Args:
        groups: By batch, smallest first.
        samples: At which they are compared.

    Source: Merrill et al. 2025, arXiv:2505.23971, for branches and their tolerance.
    """
    standings = {group.global_batch_size: Standing() for group in groups}
    compared = compare_batches(groups, dict.fromkeys(standings, samples))
    if compared is None:
        reason = "every batch diverged, or none was trained"
        return standings, CriticalBatch(status="inconclusive", reason=reason)
    standings |= compared.standings
    if compared.start - compared.lowest > compared.margin:
        return standings, _conclude(standings, compared)
    reason = "no batch lowered the loss: the branches are too short, or the state is trained"
    return standings, CriticalBatch(status="inconclusive", reason=reason, margin=compared.margin)


def _conclude(standings: dict[int, Standing], compared: Comparison) -> CriticalBatch:
    sizes, margin = list(standings), compared.margin
    critical = max(size for size in sizes if _is_within(standings[size], margin))
    surely = max(size for size in sizes if standings[size].standing == "holds")
    fails = _find_first_failure(standings, above=surely)
    doubtful = {
        size: _half_width(each)
        for size, each in standings.items()
        if surely < size < (fails or math.inf) and each.standing == "undecided"
    }
    noisy = {size: width for size, width in doubtful.items() if width > margin}
    found = CriticalBatch(
        status="measured",
        reason="",
        batch_size=critical,
        low=None if surely == sizes[0] else surely,
        high=fails,
        best_batch_size=compared.best.global_batch_size,
        margin=margin,
    )
    # One batch in doubt between one that holds and one that fails is an answer with its interval.
    if noisy and (fails is None or len(doubtful) > 1):
        names = f"batch{'' if len(noisy) == 1 else 'es'} {', '.join(map(str, noisy))}"
        return msgspec.structs.replace(
            found,
            status="inconclusive",
            batch_size=None,
            reason=f"at {names} the noise over seeds is above the margin",
            needed_seeds=_count_needed_seeds(
                max(noisy.values()), len(compared.best.branches), margin
            ),
        )
    if critical == sizes[-1]:
        reason = "the largest batch tried is still within the margin of the best"
        return msgspec.structs.replace(found, status="at_least", high=None, reason=reason)
    if critical == sizes[0]:
        reason = "only the smallest batch tried is within the margin: a smaller one may be better"
        return msgspec.structs.replace(found, status="at_most", low=None, reason=reason)
    following = sizes[sizes.index(critical) + 1]
    reason = f"batch {critical} is within the margin of the best and batch {following} is not"
    return msgspec.structs.replace(found, reason=reason)


def _is_within(each: Standing, margin: float) -> bool:
    return each.excess is not None and each.excess.point is not None and each.excess.point <= margin


def _find_first_failure(standings: dict[int, Standing], *, above: int) -> int | None:
    """Return the smallest batch from which on all fail; None where the last does not."""
    first = None
    for size, each in reversed(standings.items()):
        if size <= above or each.standing not in {"fails", "diverged"}:
            break
        first = size
    return first


def _half_width(each: Standing) -> float:
    if each.excess is None or each.excess.high is None or each.excess.point is None:
        return math.inf
    return each.excess.high - each.excess.point


def _count_needed_seeds(half_width: float, seeds: int, margin: float) -> int | None:
    """Return the fewest seeds whose interval is as narrow as the margin; None beyond reason."""
    if math.isinf(half_width) or seeds < 2:
        return None
    deviation = half_width * math.sqrt(seeds) / two_sided_t(0.95, seeds - 1)
    for count in range(seeds + 1, _MOST_SEEDS + 1):
        if two_sided_t(0.95, count - 1) * deviation / math.sqrt(count) <= margin:
            return count
    return None
