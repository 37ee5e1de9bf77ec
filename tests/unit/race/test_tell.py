"""What training showed of a pair, in words."""

import pytest

from advisor.race.data import PairResult
from advisor.race.tell import describe_gain
from advisor.statistics import Estimate


def make_result(ratio, end=None, reason="", fresh=3):
    return PairResult(
        global_batch_size=64,
        micro_batch_size=64,
        gradient_accumulation_steps=1,
        learning_rate=0.1,
        standing="behind",
        time_ratio=ratio,
        end_time_ratio=end,
        reason=reason,
        fresh_starts=fresh,
    )


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (make_result(Estimate(1.25, 1.0, 1.5)), "took 1.25 × (1 to 1.5) the time"),
        (
            make_result(Estimate(0.8, 0.7, 0.9), 0.9),
            "took 0.80 × (0.7 to 0.9) the time; 0.9 where the rate falls in the end",
        ),
        (make_result(Estimate(0.8, 0.7, 0.9), 0.001, fresh=0), "took 0.80 × (0.7 to 0.9) the time"),
        (make_result(None, reason="training diverged"), "training diverged"),
        (make_result(Estimate(5878.0, 4060.0, 8510.0), 1.4), "took more than 10 × the time"),
    ],
)
def test_a_pairs_time_is_told_with_its_interval_as_far_as_it_means_something(result, text):
    assert describe_gain(result) == text
