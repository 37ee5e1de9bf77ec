import math

import pytest

from advisor.analysis.disturbances import name_disturbances
from advisor.measurements import Telemetry
from tests.unit.analysis.test_blocks import AT_S, held, probe, telemetry


def name(probes, counters=(), *, discarded=None, levels=()):
    return name_disturbances(probes, counters, discarded=discarded or {}, session_levels=levels)


def test_a_quiet_machine_has_nothing_to_name():
    probes = [
        probe(
            (1.0, 2.0), (3.0, 4.0), session=session, canary_times_s=(0.01, 0.0105), is_steady=True
        )
        for session in range(5)
    ]
    counters = [
        telemetry(
            session,
            sm_clock_mhz=(1500.0,) * 21,
            foreign_cpu_fraction=(0.02,) * 21,
            slowdown_s={"power_cap": (0.0,) * 21, "thermal": (0.0,) * 21},
        )
        for session in range(5)
    ]
    assert name(probes, counters, levels=(0.0, 0.01, -0.01, 0.02, 0.0)) == ()


def test_discarded_blocks_are_counted_by_cause():
    first, second = name([], discarded={"thermal": 1, "brake": 3})
    assert first == "1 timed block was discarded: heat held the clock down"
    assert second.startswith("3 timed blocks were discarded: the power brake")


def test_a_power_cap_is_labelled():
    (text,) = name([probe((4.0, 5.0))], [telemetry(slowdown_s={"power_cap": held(4.0, 4.5)})])
    assert text == "the power cap held the clock down for 50 % of the timed blocks"


def test_a_clock_that_differs_between_sessions_is_reported():
    probes = [probe((1.0, 2.0), session=session) for session in range(2)]
    counters = [
        telemetry(session, sm_clock_mhz=(clock,) * 21)
        for session, clock in ((0, 1400.0), (1, 1500.0))
    ]
    (text,) = name(probes, counters)
    assert "1400 to 1500 MHz" in text


@pytest.mark.parametrize(("after", "word"), [(0.013, "slower"), (0.007, "faster")])
def test_drift_within_a_session_shows_in_the_canary(after, word):
    probes = [
        probe((1.0, 2.0), session=0, canary_times_s=(0.01, 0.01)),
        probe((1.0, 2.0), session=1, canary_times_s=(0.01, after)),
    ]
    text = name(probes)[0]
    assert f"grew {word} within 1 of 2 sessions" in text
    assert "30 %" in text


def test_sessions_of_different_speed_show_in_the_canary():
    probes = [
        probe((1.0, 2.0), session=session, canary_times_s=(level, level))
        for session, level in enumerate((0.01, 0.012))
    ]
    (text,) = name(probes)
    assert "up to 20 % longer" in text


def test_a_neighbour_is_named_with_its_share():
    counters = Telemetry(session=0, at_s=AT_S, foreign_cpu_fraction=(0.25,) * 21)
    (text,) = name([probe((1.0, 2.0))], [counters])
    assert "other processes took up to 25 %" in text


def test_two_groups_of_sessions_are_told_from_a_wide_spread():
    slow = math.log(1.13)
    (text,) = name([], levels=(0.0, slow, 0.004, slow + 0.003, -0.002))
    assert "two groups 12 % apart (3 fast, 2 slow)" in text
    assert name([], levels=(0.0, 0.03, 0.06, 0.09, 0.12)) == ()
    assert name([], levels=(0.0, 0.001, 0.2)) == ()
    assert name([], levels=(0.0, 0.001, 0.002, 0.2)) == ()


def test_outlier_blocks_are_counted_and_kept():
    (text,) = name([probe((1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (6.0, 9.0))])
    assert text.startswith("1 of 4 timed blocks took over twice")


def test_sizes_that_did_not_settle_are_named():
    (text,) = name([probe((1.0, 2.0), is_steady=False), probe((1.0, 2.0), size=4, is_steady=False)])
    assert text.endswith("at batch 4, 8")
