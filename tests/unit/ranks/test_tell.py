"""What an exchange takes, in words: never less than nothing."""

import pytest

from advisor.ranks.data import RanksConclusion
from advisor.ranks.plan import conclude_ranks
from advisor.ranks.tell import tell_ranks
from advisor.statistics import Estimate
from advisor.units import format_number
from tests.unit.ranks.simulated import Ring


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


def test_a_straggler_is_named_and_every_number_of_ranks_has_a_row():
    ring = Ring(compute_s=0.1, gradient_bytes=1e6, bytes_per_s=1e10, slow={2: 1.3})
    scaled = [ring.probe(number, turn=turn) for turn in range(3) for number in (1, 4)]
    told = tell_ranks(Found(conclude_ranks(4, [], scaled, noise_scale=64.0)))
    assert told.rows[0].text.endswith(
        "; rank 2 is 30 % (30 % to 30 %) slower than the others on its own"
    )
    (table,) = told.details
    exchange_s = ring.exchange_s(4)
    efficiency = f"{format_number(100 * 0.1 / (0.13 + exchange_s))} %"
    assert [row[:2] for row in table.rows] == [("1", "32"), ("4", "128")]
    assert [row[3] for row in table.rows] == ["100 %", efficiency]
    # 1 + B/φ samples each, at 1/0.1 and 4/0.13 of them a second.
    ratio = (1 + 32 / 64) / (1 + 128 / 64) * 4 * 0.1 / (0.13 + exchange_s)
    assert [row[4] for row in table.rows] == [f"~ {ratio:.2f} ×", "~ 1.00 ×"]
    assert [row[5] for row in table.rows] == [f"~ {ratio / 4:.2f} ×", "~ 1.00 ×"]


def test_without_a_noise_scale_no_time_to_train_is_told():
    ring = Ring(compute_s=0.1, gradient_bytes=1e6, bytes_per_s=1e10)
    scaled = [ring.probe(number) for number in (1, 2)]
    told = tell_ranks(Found(conclude_ranks(2, [], scaled)))
    assert {row[4:] for row in told.details[0].rows} == {("not measured",) * 2}
    one = conclude_ranks(2, [], [*scaled[1:], ring.probe(2, turn=1)])
    assert tell_ranks(Found(one)).details == ()  # of one number alone nothing scales
