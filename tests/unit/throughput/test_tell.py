import msgspec
import pytest

from advisor.statistics import Estimate
from advisor.throughput.data import Saturation, SpeedLimit
from advisor.throughput.tell import (
    describe_energy,
    describe_saturation,
    describe_speed_limit,
    describe_throughput,
)
from tests.unit.report.sample_run import build_derived


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("host", "cannot issue work"),
        ("fixed", "puts 60 % of a step down to no sample"),
        ("arithmetic", "only a lower precision"),
        ("bandwidth", "move fewer bytes"),
        ("neither", "neither arithmetic nor bandwidth"),
    ],
)
def test_what_binds_comes_with_its_figure(kind, words):
    limit = SpeedLimit(
        micro_batch_size=64,
        kind=kind,
        peak="data sheet",
        flops_fraction=0.412,
        bandwidth_fraction=0.0312,
        enqueue_fraction=0.2,
        fixed_fraction=0.6,
    )
    text = describe_speed_limit(limit)
    assert words in text
    assert "at batch 64: 41 % of the data sheet's peak (MFU), at least 3.1 % of" in text


def test_without_figures_nothing_is_said():
    assert describe_speed_limit(SpeedLimit(micro_batch_size=64, kind=None)) == ""


def test_the_cheapest_batch_stands_beside_the_fastest():
    curve = build_derived().throughput
    assert curve is not None
    assert describe_energy(curve) == ""
    costs = [3.0, 1.0, 2.0, *[2.0] * len(curve.points)]
    points = tuple(
        msgspec.structs.replace(point, energy_per_sample_j=Estimate(cost, None, None))
        for point, cost in zip(curve.points, costs, strict=False)
    )
    cheapest = points[1].micro_batch_size
    text = describe_energy(
        msgspec.structs.replace(curve, points=points, cheapest_micro_batch_size=cheapest)
    )
    assert text.startswith(f"batch {cheapest} is the cheapest")
    assert "the fastest, " in text


@pytest.mark.parametrize(
    ("spread", "half_width", "told"),
    [
        (0.012, 0.05, ("sessions agree within ± 1.20 %", "known to ± 5.00 %")),
        (189.0, 347.0, ("sessions do not agree", "not known well")),
    ],
)
def test_a_spread_is_told_as_far_as_it_says_anything(spread, half_width, told):
    curve = build_derived().throughput
    assert curve is not None
    text = describe_throughput(
        msgspec.structs.replace(
            curve,
            session_spread_fraction=spread,
            decisive_micro_batch_size=curve.points[0].micro_batch_size,
            half_width_fraction=half_width,
        )
    )
    for words in told:
        assert words in text
    assert "18,900" not in text


def make_saturation(gain):
    return Saturation(status="inconclusive", batch_size=None, low=None, high=None, last_gain=gain)


@pytest.mark.parametrize(
    ("gain", "told"),
    [
        (Estimate(0.107, 0.06, 0.154), "gains 10.7 (6.00 to 15.4) % more throughput"),
        (Estimate(-0.107, -0.154, 0.02), "loses 10.7 (-2.00 to 15.4) % of the throughput"),
    ],
)
def test_a_last_doubling_gains_or_loses(gain, told):
    assert told in describe_saturation(make_saturation(gain))


@pytest.mark.parametrize(("half", "is_told"), [(52.3, True), (0.2, False)])
def test_half_of_the_speed_is_told_where_a_batch_can_have_it(half, is_told):
    curve = build_derived().throughput
    assert curve is not None
    half_point = Estimate(half, 0.5 * half, 2.0 * half)
    text = describe_throughput(
        msgspec.structs.replace(curve, half_saturation_batch_size=half_point)
    )
    assert ("half of the limit's speed" in text) == is_told
