"""The arithmetic of the GPU's benchmark on known numbers."""

import pytest

from advisor.device.data import Counter, Telemetry
from advisor.memory.data import Probe
from benchmarks.energy_against_power import (
    compare_energy,
    compare_neighbours,
    measure_power_times_time_j,
)

#: Of one block of 10 steps, from 10 s to 14 s.
SPAN_S, STEPS, SIZE = (10.0, 14.0), 10, 5
AT_S = tuple(8.0 + 0.25 * number for number in range(33))  # to 16 s


def probe(span_s=SPAN_S):
    return Probe(
        stage="throughput", session=3, micro_batch_size=SIZE, outcome="fit", steps=STEPS,
        step_times_s=(0.4,), block_spans_s=(span_s,), block_steps=(STEPS,),
    )  # fmt: skip


def telemetry(*, counter_w=200.0, meter_w=200.0, idle_w=50.0, missing=()):
    """A card that draws its power in the block alone, and a meter that averages over a second."""

    def averaged_w(at_s):
        within_s = max(0.0, min(at_s, SPAN_S[1]) - max(at_s - 1.0, SPAN_S[0]))
        return idle_w + (meter_w - idle_w) * within_s

    def spent_j(at_s):
        within_s = min(max(at_s - SPAN_S[0], 0.0), SPAN_S[1] - SPAN_S[0])
        return 1e6 + idle_w * (at_s - AT_S[0]) + (counter_w - idle_w) * within_s

    return Telemetry(
        session=3,
        at_s=AT_S,
        energy_j=() if "energy" in missing else tuple(map(spent_j, AT_S)),
        power_w=() if "power" in missing else tuple(map(averaged_w, AT_S)),
        counters=tuple(Counter(name=name, missing_because="no_permission") for name in missing),
    )


def test_ratios_are_of_neighbours():
    assert compare_neighbours((100.0, 90.0), (80.0, 100.0)) == (1.25, 0.9)
    assert compare_neighbours((), ()) == ()
    with pytest.raises(ValueError, match="argument 2"):
        compare_neighbours((1.0,), ())


def test_energy_equals_power_times_time_though_the_meter_lags():
    compared = compare_energy(probe(), telemetry())
    # 200 W for 4 s over 50 samples
    assert compared.energy_per_sample_j == pytest.approx(16.0)
    assert compared.power_times_time_j == pytest.approx(16.0)
    assert compared.ratio == pytest.approx(1.0)
    assert compared.missing_because is None


def test_a_counter_that_counts_too_much_shows():
    compared = compare_energy(probe(), telemetry(counter_w=230.0))
    assert compared.ratio == pytest.approx(1.15)


@pytest.mark.parametrize("name", ["energy", "power"])
def test_a_missing_counter_is_named_with_its_reason(name):
    compared = compare_energy(probe(), telemetry(missing=(name,)))
    assert compared.ratio is None
    assert compared.missing_because == f"{name}: no_permission"


def test_a_block_that_the_samples_do_not_reach_around_says_nothing():
    compared = compare_energy(probe((10.0, 17.0)), telemetry())
    assert compared.energy_per_sample_j is None
    assert compared.power_times_time_j is None
    assert compared.missing_because == "energy: too few samples of it around the block"


def test_a_block_as_short_as_the_meters_mean_says_nothing_of_power():
    short = probe((10.0, 11.2))
    assert measure_power_times_time_j(short, telemetry()) is None
    compared = compare_energy(short, telemetry())
    assert compared.energy_per_sample_j is not None
    assert compared.missing_because == "power: too few samples of it around the block"
