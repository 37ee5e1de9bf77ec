import math

import pytest

from advisor.rate.data import Evaluation
from advisor.rate.trial import choose_best_rate, rank_rate
from advisor.rate.verdict import TrialVerdict


def make_verdict(rate_of_fall, *, passed=True):
    """A loss of exp(−r·n) over 20 evaluations of 100 samples, which ends r·n down."""
    curve = tuple(
        Evaluation(samples=100 * n, loss=math.exp(-rate_of_fall * n)) for n in range(1, 21)
    )
    end = curve[-1].loss if passed else None
    return TrialVerdict(passed=passed, reason="", end_loss=end, curve=curve if passed else ())


@pytest.mark.parametrize("target", [None, 0.3])
@pytest.mark.parametrize(
    ("slower_by", "edge", "chosen"),
    [(0.04, False, 0.5), (0.06, False, 1.0), (0.08, True, 0.5), (0.12, True, 1.0)],
)
def test_a_lower_rate_is_taken_while_it_lags_by_few_samples(target, slower_by, edge, chosen):
    verdicts = {0.5: make_verdict(0.1 * (1 - slower_by)), 1.0: make_verdict(0.1)}
    if edge:
        verdicts[2.0] = make_verdict(0.1, passed=False)
    assert choose_best_rate(verdicts, target) == chosen


def test_with_a_target_the_rate_that_reaches_it_first_is_the_best():
    verdicts = {0.5: make_verdict(0.05), 1.0: make_verdict(0.1), 2.0: make_verdict(0.08)}
    target = 0.5
    assert choose_best_rate(verdicts, target) == 1.0
    ranks = {rate: rank_rate(verdict, target) for rate, verdict in verdicts.items()}
    assert ranks[1.0][0] == pytest.approx(100 * math.log(2) / 0.1, rel=0.01)
    assert min(ranks, key=ranks.get) == 1.0


def test_a_rate_that_misses_the_target_ranks_behind_those_that_reach_it():
    verdicts = {0.5: make_verdict(0.04), 1.0: make_verdict(0.1)}
    assert choose_best_rate(verdicts, 0.4) == 1.0
    # Where none reaches it, the one that ends lowest.
    assert choose_best_rate(verdicts, 1e-6) == 1.0


def test_beyond_its_end_a_loss_falls_on_by_the_same_factors():
    verdict = make_verdict(0.1)
    end, first = verdict.curve[-1], verdict.curve[0]
    samples, _ = rank_rate(verdict, end.loss**2 / first.loss)
    assert samples == pytest.approx(2 * end.samples)
    negative = TrialVerdict(
        passed=True,
        reason="",
        end_loss=-3.0,
        curve=(Evaluation(samples=0, loss=-1.0), Evaluation(samples=100, loss=-3.0)),
    )
    assert rank_rate(negative, -4.0)[0] == pytest.approx(150.0)


def test_where_no_rate_passed_there_is_no_best_one():
    assert choose_best_rate({1.0: make_verdict(0.1, passed=False)}) is None
    assert choose_best_rate({}) is None
