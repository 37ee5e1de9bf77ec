"""Which of the rates that a trial ran at one batch is the best."""

import math
from collections.abc import Mapping

from advisor.rate.trial import TrialVerdict
from advisor.rate.trial_curves import find_samples_to

#: Share of the samples by which a rate may lag behind the best one and count as equally good; and
#: the same where the best one is the last before rates fail.
EQUAL_LAG_FRACTION, EDGE_LAG_FRACTION = 0.05, 0.1


def rank_rate(verdict: TrialVerdict, target_loss: float | None) -> tuple[float, float]:
    """Return what orders the rates of one batch that passed, the best first.

    The samples to the target loss; of a rate that does not reach it as many as it would take at its
    mean pace, which is too few, since losses fall ever more slowly: the pace of the loss's
    logarithm, where there is one. Without a target all are alike, and the loss at the end decides.

    Args:
        verdict: Of a rate that passed.
        target_loss: The one to reach; None where the rates ran over the same samples.

    Source: derived.
    """
    assert verdict.end_loss is not None
    end, first = verdict.curve[-1], verdict.curve[0]
    if target_loss is None:
        return float(end.samples), verdict.end_loss
    reached = find_samples_to(verdict.curve, target_loss)
    if reached is None:
        reached = end.samples * _compare_falls(first.loss, end.loss, target_loss)
    return reached, verdict.end_loss


def _compare_falls(first: float, end: float, target: float) -> float:
    """Return the fall to the target over that to the end, of the logarithm for positive losses."""
    if min(first, end, target) > 0.0:
        first, end, target = math.log(first), math.log(end), math.log(target)
    return (first - target) / max(first - end, 1e-12)


def choose_best_rate(
    verdicts: Mapping[float, TrialVerdict], target_loss: float | None = None
) -> float | None:
    """Return the rate that trains best, or a lower one about as good; None where none passed.

    About as good: it takes at most 5 % more samples; 10 % where the next higher rate failed, since
    a few starts do not show the edge of stability to within a step. The lower rate is further from
    it.

    Args:
        verdicts: Of the rates at one batch.
        target_loss: As in `rank_rate`.

    Source: derived.
    """
    passed = {rate: verdict for rate, verdict in verdicts.items() if verdict.passed}
    if not passed:
        return None
    best = min(passed, key=lambda rate: (*rank_rate(passed[rate], target_loss), rate))
    higher = min((rate for rate in verdicts if rate > best), default=None)
    at_edge = higher is not None and not verdicts[higher].passed
    most = EDGE_LAG_FRACTION if at_edge else EQUAL_LAG_FRACTION
    lower = max((rate for rate in passed if rate < best), default=best)
    return lower if _measure_lag(passed[best], passed[lower], target_loss) <= most else best


def _measure_lag(best: TrialVerdict, lower: TrialVerdict, target_loss: float | None) -> float:
    """Return how many of its samples the lower rate takes more than the best one, as a share.

    To the target; where one of them does not reach it, to the lower rate's own end.
    """
    assert lower.end_loss is not None
    if target_loss is not None:
        first = find_samples_to(best.curve, target_loss)
        second = find_samples_to(lower.curve, target_loss)
        if first is not None:
            return math.inf if second is None else 1.0 - first / second if second else 0.0
    reached = find_samples_to(best.curve, lower.end_loss)
    return 1.0 if reached is None else 1.0 - reached / best.curve[-1].samples
