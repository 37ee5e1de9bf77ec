"""Rates at one batch without a base pair: whether each trains, which is tried next, which is best.

rate   η/2   η/√2   η   √2η   2η      η: what the range test suggests
                    1    2     3      it passes: climb while the loss gets lower
        3      2    1                 it fails: step down until one passes, and once more
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from advisor.rate.curves import average_curves, find_samples_to, has_diverged
from advisor.rate.data import Evaluation, TrialBranch

#: Each rate over the next lower one: fine enough that the best rate is missed by 19 % at most.
RATE_STEP = math.sqrt(2.0)
#: Most steps to either side: a factor of 5.7 down, of 16 up.
_MOST_STEPS_DOWN, _MOST_STEPS_UP = 5, 8
#: Fewest starts: below, one lucky start would decide.
LEAST_SEEDS = 3
#: Share of the range test's fall, and of the median fall of the starts, that each must reach.
LEAST_FALL_FRACTION, STALL_FRACTION = 0.1, 0.5
#: Share of its own fall by which a start may end above its lowest loss.
RISE_FRACTION = 0.25
#: Share of the samples by which a rate may lag behind the best one and count as equally good; and
#: the same where the best one is the last before rates fail.
EQUAL_LAG_FRACTION, EDGE_LAG_FRACTION = 0.05, 0.1


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a rate trains, and why: one sentence without its full stop."""

    passed: bool = False
    reason: str
    #: The trial ended before it could show anything.
    is_too_short: bool = False
    #: Of a rate that passed, the mean over starts.
    end_loss: float = math.inf
    curve: tuple[Evaluation, ...] = ()


def judge_alone(branches: Sequence[TrialBranch], *, fall: float) -> Verdict:
    """Return whether a rate trains: no start diverges, stalls or ends on its way up again.

    `fall` is how far the loss fell in the range test.
    """
    diverged = _refuse("diverged", map(has_diverged, branches))
    if diverged is not None:
        return diverged
    if len({branch.seed for branch in branches}) < LEAST_SEEDS:
        reason = f"was run from {len(branches)} starts only; {LEAST_SEEDS} are needed"
        return Verdict(is_too_short=True, reason=reason)
    falls = [branch.fall for branch in branches]
    least = max(LEAST_FALL_FRACTION * fall, STALL_FRACTION * statistics.median(falls))
    first = statistics.fmean(branch.first_loss for branch in branches)
    end = statistics.fmean(branch.end.loss for branch in branches)
    passed = Verdict(
        passed=True,
        reason=f"trained from {len(branches)} fresh starts: loss {end:.3g} from {first:.3g}",
        end_loss=end,
        curve=average_curves(branches),
    )
    risen = (
        branch.end.loss - min(each.loss for each in branch.evaluations)
        > RISE_FRACTION * branch.fall
        for branch in branches
    )
    return (
        _refuse("stalled", (each < least or each <= 0.0 for each in falls))
        or _refuse("ended on a rising loss", risen)
        or passed
    )


def _refuse(what: str, failed: Iterable[bool]) -> Verdict | None:
    each = list(failed)
    return Verdict(reason=f"{what} from {sum(each)} of {len(each)} starts") if any(each) else None


def choose_next_rate(suggested: float, tried: Mapping[float, Verdict]) -> float | None:
    """Return the rate to try next: the suggested one, then its neighbours towards the best.

    None once the best rate's neighbours were tried, or once there is no lower one.
    """
    # By steps from the suggested rate, to rates that were stored and read again.
    places = {
        round(math.log(rate / suggested) / math.log(RATE_STEP)): verdict
        for rate, verdict in tried.items()
    }
    passed = {place: each for place, each in places.items() if each.passed}
    candidates = [0]
    if places and not passed:
        candidates = [min(places) - 1]
    elif places:
        best = min(passed, key=lambda place: (passed[place].end_loss, abs(place)))
        refused = min(places.keys() - passed.keys(), default=math.inf)
        candidates = [place for place in (best + 1, best - 1) if place < refused]
    for place in candidates:
        if place not in places and -_MOST_STEPS_DOWN <= place <= _MOST_STEPS_UP:
            return float(suggested * RATE_STEP**place)
    return None


def choose_best_rate(verdicts: Mapping[float, Verdict]) -> float | None:
    """Return the rate that trains best, or a lower one about as good, further off the edge."""
    passed = {rate: verdict for rate, verdict in verdicts.items() if verdict.passed}
    if not passed:
        return None
    best = min(passed, key=lambda rate: (passed[rate].end_loss, rate))
    higher = min((rate for rate in verdicts if rate > best), default=best)
    most = EQUAL_LAG_FRACTION if verdicts[higher].passed else EDGE_LAG_FRACTION
    lower = max((rate for rate in passed if rate < best), default=best)
    reached = find_samples_to(passed[best].curve, passed[lower].end_loss)
    lag = 1.0 if reached is None else 1.0 - reached / passed[best].curve[-1].samples
    return lower if lag <= most else best
