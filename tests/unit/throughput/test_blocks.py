import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.memory.data import Probe
from advisor.throughput.blocks import (
    discard_held_blocks,
    measure_held_fraction,
    measure_rise,
    select_in_blocks,
)
from advisor.throughput.disturbances import name_disturbances
from advisor.throughput.efficiency import estimate_energy_per_sample
from tests.unit.throughput.watched import AT_S, held, probe, telemetry


@pytest.mark.parametrize("cause", ["thermal", "brake"])
def test_a_block_that_was_held_down_is_discarded_and_counted(cause):
    seen = probe((1.1, 1.9), (4.1, 4.9), (7.1, 7.9), micro_step_times_s=(1.0, 2.0, 3.0))
    counters = telemetry(slowdown_s={cause: held(4.2, 4.8)})
    valid = discard_held_blocks([seen], [counters])
    (kept,) = valid.probes
    assert valid.discarded == {cause: 1}
    assert kept.block_spans_s == ((1.1, 1.9), (7.1, 7.9))
    assert kept.micro_step_times_s == (1.0, 3.0)
    assert len(kept.step_times_s) == len(kept.block_steps) == 2


def test_a_probe_without_any_block_left_is_left_out():
    valid = discard_held_blocks(
        [probe((4.1, 4.9)), probe((1.1, 1.9), size=16)],
        [telemetry(slowdown_s={"thermal": held(4.0, 5.0)})],
    )
    assert [each.micro_batch_size for each in valid.probes] == [16]


def test_where_most_blocks_were_held_down_all_of_them_count_and_it_is_told():
    seen = [probe((1.1, 1.9)), probe((4.1, 4.9), (7.1, 7.9), size=16)]
    counters = [telemetry(slowdown_s={"thermal": held(1.0, 8.0)})]
    valid = discard_held_blocks(seen, counters)
    assert (list(valid.probes), valid.discarded) == (seen, {})
    (told,) = name_disturbances(valid.probes, counters, discarded=valid.discarded)
    assert told.startswith("heat held the clock down for 100 % of the timed blocks")


def test_a_power_cap_discards_nothing_and_is_measured():
    seen = probe((1.0, 2.0), (4.0, 5.0))
    counters = telemetry(slowdown_s={"power_cap": held(4.0, 5.0)})
    assert discard_held_blocks([seen], [counters]).probes == (seen,)
    assert measure_held_fraction([seen], [counters], "power_cap") == pytest.approx(0.5)
    assert measure_held_fraction([seen], [counters], "thermal") is None


def test_another_session_and_another_stage_are_not_judged():
    memory = Probe(stage="memory", session=0, micro_batch_size=8, outcome="fit")
    other = probe((4.1, 4.9), session=1)
    counters = telemetry(slowdown_s={"thermal": held(4.0, 5.0)})
    assert discard_held_blocks([memory, other], [counters]).probes == (memory, other)


def test_a_block_that_the_samples_do_not_reach_around_says_nothing():
    late = probe((9.5, 10.5))
    counters = telemetry(slowdown_s={"thermal": held(0.0, 10.0)}, energy_j=AT_S)
    assert discard_held_blocks([late], [counters]).probes == (late,)
    assert measure_rise(counters, counters.energy_j, (9.5, 10.5)) is None


@given(st.floats(0.0, 9.0), st.floats(0.01, 1.0), st.floats(1.0, 1000.0), st.integers(1, 500))
def test_energy_is_power_times_time_over_samples(began_s, length_s, power_w, size):
    span = (began_s, began_s + length_s)
    counters = [
        telemetry(session, energy_j=tuple(7.0 + power_w * at_s for at_s in AT_S))
        for session in range(3)
    ]
    probes = [probe(span, session=session, size=size) for session in range(3)]
    energy = estimate_energy_per_sample(probes, counters)[size]
    expected = power_w * length_s / (10 * size)
    assert energy.point == pytest.approx(expected, rel=1e-6)
    assert energy.low == pytest.approx(expected, rel=1e-6)


def test_energy_of_one_session_has_no_interval():
    counters = telemetry(energy_j=AT_S)
    probes = [probe((1.0, 3.0), size=8), probe((5.0, 6.0), size=6)]
    energy = estimate_energy_per_sample(probes, [counters])
    assert energy[8].point == pytest.approx(2.0 / 80)
    assert energy[8].low is None
    assert energy[6].point < energy[8].point


def test_values_sampled_outside_of_blocks_are_left_out():
    counters = telemetry()
    assert select_in_blocks([probe((1.0, 2.0))], counters, AT_S) == [1.0, 1.5, 2.0]
