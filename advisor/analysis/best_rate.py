"""Which of the rates that a trial ran at one batch is the best."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from advisor.analysis.trial import TrialVerdict
from advisor.measurements import Evaluation

#: Share of the samples by which a rate may lag behind the best one and count as equally good; and
#: the same where the best one is the last before rates fail.
EQUAL_LAG_FRACTION, EDGE_LAG_FRACTION = 0.05, 0.1


def choose_best_rate(verdicts: Mapping[float, TrialVerdict]) -> float | None:
    """Return the rate that trains best, or a lower one about as good; None where none passed.

    All were run from the same starts over the same samples. About as good: the best rate was where
    the lower one ends at most 5 % of the samples earlier; 10 % where the next higher rate failed,
    since a few starts do not show the edge of stability to within a step. The lower rate is further
    from it.

    Args:
        verdicts: Of the rates at one batch.

    Source: derived.
    """
    passed = {rate: verdict for rate, verdict in verdicts.items() if verdict.end_loss is not None}
    if not passed:
        return None
    best = min(passed, key=lambda rate: (passed[rate].end_loss or 0.0, rate))
    higher = min((rate for rate in verdicts if rate > best), default=None)
    at_edge = higher is not None and not verdicts[higher].passed
    most = EDGE_LAG_FRACTION if at_edge else EQUAL_LAG_FRACTION
    lower = max((rate for rate in passed if rate < best), default=best)
    return lower if _measure_lag(passed[best].curve, passed[lower].end_loss) <= most else best


def _measure_lag(curve: Sequence[Evaluation], loss: float | None) -> float:
    """Return how much before its end the curve was at a loss, as a share of its samples."""
    if loss is None:
        return 1.0
    for before, after in pairwise(curve):
        if before.loss > loss >= after.loss:
            share = (before.loss - loss) / (before.loss - after.loss)
            reached = before.samples + share * (after.samples - before.samples)
            return 1.0 - reached / curve[-1].samples
    return 1.0
