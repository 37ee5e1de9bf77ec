"""What the branches say of batches: the critical one, and which is furthest after equal time."""

import itertools
import math
from collections.abc import Sequence

from msgspec.structs import replace

from advisor.statistics import Estimate, two_sided_t
from advisor.verify.data import BatchStanding, CriticalBatch, Verdict, VerdictStatus
from advisor.verify.groups import BatchBranches, Comparison, Standing, compare_batches

#: Most seeds worth naming: where more are needed, longer branches are the better answer.
_MOST_SEEDS = 200
_VERDICTS: dict[BatchStanding, tuple[VerdictStatus, str]] = {
    "holds": ("holds", "after equal time it is within the margin of the best"),
    "fails": ("beaten", "after equal time batch {best} is further"),
    "undecided": ("inconclusive", "the seeds differ too much to tell it from batch {best}"),
}


def judge_batches(
    groups: Sequence[BatchBranches], samples: int
) -> tuple[dict[int, Standing], CriticalBatch]:
    """Return where every batch stands after so many samples, and the critical batch.

    Source: Merrill et al. 2025, arXiv:2505.23971, for branches and their tolerance.
    """
    standings = {group.global_batch_size: Standing() for group in groups}
    compared = compare_batches(groups, dict.fromkeys(standings, samples))
    if compared is None:
        reason = "every batch diverged, or none was trained"
        return standings, CriticalBatch(status="inconclusive", reason=reason)
    standings |= compared.standings
    if compared.untold is None:
        return standings, _conclude(standings, compared)
    return standings, CriticalBatch(
        status="inconclusive", reason=compared.untold, margin=compared.margin
    )


def _conclude(standings: dict[int, Standing], compared: Comparison) -> CriticalBatch:
    """Return the largest batch whose mean excess is within the margin.

    Inconclusive where a batch in doubt has an interval wider than that, unless it is the only one
    between a batch that holds and the first that fails: that is an answer with its interval.
    """
    sizes, margin = list(standings), compared.margin
    excesses = {size: each.excess for size, each in standings.items() if each.excess is not None}
    critical = max(size for size, each in excesses.items() if (each.point or 0.0) <= margin)
    surely = max(size for size in sizes if standings[size].standing == "holds")
    # The smallest batch from which on all fail; None where the last does not.
    failing = itertools.takewhile(
        lambda size: size > surely and standings[size].standing in {"fails", "diverged"},
        reversed(sizes),
    )
    fails = min(failing, default=None)
    doubtful = {
        size: _find_half_width(each.excess)
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
    if noisy and (fails is None or len(doubtful) > 1):
        names = f"batch{'' if len(noisy) == 1 else 'es'} {', '.join(map(str, noisy))}"
        seeds = len(compared.best.branches)
        return replace(
            found,
            status="inconclusive",
            batch_size=None,
            reason=f"at {names} the noise over seeds is above the margin",
            needed_seeds=_count_needed_seeds(max(noisy.values()), seeds, margin),
        )
    if critical == sizes[-1]:
        reason = "the largest batch tried is still within the margin of the best"
        return replace(found, status="at_least", high=None, reason=reason)
    if critical == sizes[0]:
        reason = "only the smallest batch tried is within the margin: a smaller one may be better"
        return replace(found, status="at_most", low=None, reason=reason)
    following = sizes[sizes.index(critical) + 1]
    reason = f"batch {critical} is within the margin of the best and batch {following} is not"
    return replace(found, reason=reason)


def _find_half_width(excess: Estimate | None) -> float:
    if excess is None or excess.high is None or excess.point is None:
        return math.inf
    return excess.high - excess.point


def _count_needed_seeds(half_width: float, seeds: int, margin: float) -> int | None:
    """Return the fewest seeds whose interval is as narrow as the margin; None beyond reason."""
    if math.isinf(half_width) or seeds < 2:
        return None
    deviation = half_width * math.sqrt(seeds) / two_sided_t(0.95, seeds - 1)
    counts = range(seeds + 1, _MOST_SEEDS + 1)
    widths = ((n, two_sided_t(0.95, n - 1) * deviation / math.sqrt(n)) for n in counts)
    return next((n for n, width in widths if width <= margin), None)


def judge_recommendation(
    groups: Sequence[BatchBranches], *, recommended: int, samples: int
) -> tuple[Comparison | None, Verdict]:
    """Return every batch after equal time, and whether the recommended one is as far as the best.

    The losses are read when the branch of the fastest batch ends, by the seconds of a step of each.
    """
    by_size = {group.global_batch_size: group for group in groups}
    timed = [(size, each.step_s) for size, each in by_size.items() if not each.diverged]
    step_s = {size: time_s for size, time_s in timed if time_s}
    own = by_size.get(recommended)
    if own is None:
        return None, _leave_open("the recommended batch was not trained")
    if own.diverged:
        reason = f"the recommended pair diverged from {own.diverged} of {len(own.branches)} seeds"
        return None, Verdict(status="beaten", reason=reason)
    if recommended not in step_s:
        return None, _leave_open("the run did not time the recommended batch")
    time_s = min(samples / size * own_s for size, own_s in step_s.items())
    compared = compare_batches(groups, {size: time_s / step_s[size] * size for size in step_s})
    assert compared is not None
    if compared.untold is not None:
        return None, _leave_open(compared.untold)
    best, standing = compared.best.global_batch_size, compared.standings[recommended]
    assert standing.loss is not None
    status, reason = _VERDICTS[standing.standing]
    reason = f"{reason.format(best=best)}: loss {standing.loss.point:.3g} against "
    reason += f"{compared.lowest:.3g} at batch {best}"
    if best == recommended:
        reason = "after equal time no batch has a lower loss"
    return compared, Verdict(
        status=status,
        reason=reason,
        equal_time_s=time_s,
        target_loss=compared.lowest,
        margin=compared.margin,
        best_batch_size=best,
    )


def _leave_open(reason: str) -> Verdict:
    return Verdict(status="inconclusive", reason=reason)
