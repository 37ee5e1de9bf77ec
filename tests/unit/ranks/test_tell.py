"""What an exchange takes, in words: never less than nothing."""

import pytest

from advisor.ranks.data import RanksConclusion
from advisor.ranks.tell import tell_ranks
from advisor.statistics import Estimate


class Found:
    """Conclusions of which one is there."""

    def __init__(self, found):
        self.of = lambda _: found


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (Estimate(0.2, 0.1, 0.3), "spend 20 % (10 % to 30 %) of a step on their exchange"),
        (Estimate(0.02, -0.03, 0.07), "spend 2 % (0 % to 7 %) of a step on their exchange"),
        (
            Estimate(-0.03, -0.1, 0.04),
            "lose no time that shows by their exchange: 4 % of a step at most",
        ),
        (Estimate(-0.03, None, None), "lose no time that shows by their exchange"),
        (Estimate(-0.1, -0.2, -0.05), "lose no time by their exchange"),
    ],
)
def test_an_exchange_takes_no_less_than_nothing(share, text):
    found = RanksConclusion(ranks=4, global_batch_size=64, exchange_fraction=share)
    assert tell_ranks(Found(found)).rows[0].text == f"4 ranks at batch 64 {text}"
