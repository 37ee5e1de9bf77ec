import math

import pytest

from advisor.analysis.best_rate import choose_best_rate
from advisor.analysis.trial import TrialVerdict
from advisor.measurements import Evaluation


def make_verdict(rate_of_fall, *, passed=True):
    """A loss of exp(−r·n) over 20 evaluations of 100 samples, which ends r·n down."""
    curve = tuple(
        Evaluation(samples=100 * n, loss=math.exp(-rate_of_fall * n)) for n in range(1, 21)
    )
    end = curve[-1].loss if passed else None
    return TrialVerdict(passed=passed, reason="", end_loss=end, curve=curve if passed else ())


@pytest.mark.parametrize(
    ("slower_by", "edge", "chosen"),
    [(0.04, False, 0.5), (0.06, False, 1.0), (0.08, True, 0.5), (0.12, True, 1.0)],
)
def test_a_lower_rate_is_taken_while_it_lags_by_few_samples(slower_by, edge, chosen):
    verdicts = {0.5: make_verdict(0.1 * (1 - slower_by)), 1.0: make_verdict(0.1)}
    if edge:
        verdicts[2.0] = make_verdict(0.1, passed=False)
    assert choose_best_rate(verdicts) == chosen


def test_where_no_rate_passed_there_is_no_best_one():
    assert choose_best_rate({1.0: make_verdict(0.1, passed=False)}) is None
    assert choose_best_rate({}) is None
