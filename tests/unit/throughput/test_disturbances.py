import math

import pytest

from advisor.device.data import Counter, DeviceFacts, Environment, Telemetry
from advisor.throughput.disturbances import name_disturbances
from tests.unit.throughput.watched import AT_S, held, probe, telemetry

GIB = 2**30


def name(probes, counters=(), *, discarded=None, environment=None):
    return name_disturbances(
        probes,
        counters,
        discarded=discarded or {},
        environment=environment,
    )


def card(limit_w=400.0, default_w=400.0):
    """A run's environment: a card of 80 GiB with its power limits."""
    return Environment(
        device=DeviceFacts(
            kind="cuda", name="Imaginary 9000", memory_bytes=80 * GIB, available_bytes=79 * GIB
        ),
        torch="2.9.0",
        python="3.12.1",
        platform="Linux",
        cpu="Example CPU",
        cpu_threads=16,
        counters=(
            Counter(name="power_limit", value=limit_w, unit="W"),
            Counter(name="power_limit_default", value=default_w, unit="W"),
        ),
    )


def holding(session, memory_bytes, *, is_listed=True):
    remarks = () if is_listed else (Counter(name="own_memory", missing_because="pids_not_listed"),)
    return telemetry(session, foreign_memory_bytes=(memory_bytes,) * 21, counters=remarks)


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
    assert name(probes, counters) == ()


def test_discarded_blocks_are_counted_by_cause():
    first, second = name([], discarded={"thermal": 1, "brake": 3})
    assert first == "1 timed block was discarded: heat held the clock down"
    assert second.startswith("3 timed blocks were discarded: the power brake")


def test_a_power_cap_is_labelled():
    (text,) = name([probe((4.0, 5.0))], [telemetry(slowdown_s={"power_cap": held(4.0, 4.5)})])
    assert text == "the power cap held the clock down for 50 % of the timed blocks"


def test_a_limit_below_the_default_is_a_power_cap_whatever_the_card_drew():
    (text,) = name([probe((4.0, 5.0))], environment=card(limit_w=300.0))
    assert text == "a power cap is set: 300 W, where the card's default is 400 W"
    assert name([probe((4.0, 5.0))], environment=card()) == ()


@pytest.mark.parametrize(("power_w", "is_named"), [(398.0, True), (389.0, True), (370.0, False)])
def test_power_at_the_limit_is_labelled(power_w, is_named):
    counters = [telemetry(power_w=(50.0,) * 8 + (power_w,) * 3 + (50.0,) * 10)]
    found = name([probe((4.0, 5.0))], counters, environment=card())
    assert found == (f"the card drew {power_w:.0f} W, at its power limit of 400 W",) * is_named


def test_all_that_is_known_of_a_power_cap_is_one_sentence():
    counters = [telemetry(power_w=(299.0,) * 21, slowdown_s={"power_cap": held(4.0, 5.0)})]
    (text,) = name([probe((4.0, 5.0))], counters, environment=card(limit_w=300.0))
    assert text.startswith("the power cap held the clock down for 100 %")
    assert "drew 299 W, at its power limit of 300 W; a power cap is set: 300 W" in text


def test_memory_of_a_neighbour_is_named_with_its_figure():
    probes = [probe((1.0, 2.0), session=session) for session in range(2)]
    counters = [holding(0, 0), holding(1, 4 * GIB)]
    (text,) = name(probes, counters, environment=card())
    assert "other processes held up to 4 GiB (5 %) of the device's memory during a session" in text
    (text,) = name(probes, counters)
    assert "up to 4 GiB of the device's memory" in text


def test_memory_as_little_as_an_idle_process_takes_goes_unnamed():
    assert name([probe((1.0, 2.0))], [holding(0, 200 * 2**20)], environment=card()) == ()


def test_memory_outside_of_the_timed_blocks_goes_unnamed():
    column = (40 * GIB, 40 * GIB) + (0,) * 19
    assert name([probe((2.0, 4.0))], [telemetry(foreign_memory_bytes=column)]) == ()


def test_where_own_processes_are_not_listed_only_what_every_session_found_counts():
    probes = [probe((1.0, 2.0), session=session) for session in range(2)]
    left_behind = [holding(0, 0, is_listed=False), holding(1, 40 * GIB, is_listed=False)]
    assert name(probes, left_behind, environment=card()) == ()
    lasting = [holding(0, 8 * GIB, is_listed=False), holding(1, 9 * GIB, is_listed=False)]
    (text,) = name(probes, lasting, environment=card())
    assert "held at least 8 GiB (10 %)" in text
    assert "more later is not seen" in text


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


def name_levels(*levels):
    blocks = [(1.0, 1.0 + math.exp(level)) for level in levels]
    return name([probe(block, session=session) for session, block in enumerate(blocks)])


def test_two_groups_of_sessions_are_told_from_a_wide_spread():
    slow = math.log(1.13)
    (text,) = name_levels(0.0, slow, 0.004, slow + 0.003, -0.002)
    assert "two groups 13 % apart (3 fast, 2 slow)" in text
    assert name_levels(0.0, 0.03, 0.06, 0.09, 0.12) == ()
    assert name_levels(0.0, 0.001, 0.2) == ()
    assert name_levels(0.0, 0.001, 0.002, 0.2) == ()
    assert name_levels(0.0, 0.01, -0.01, 0.02, 0.0) == ()


def test_outlier_blocks_are_counted_and_kept():
    (text,) = name([probe((1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (6.0, 9.0))])
    assert text.startswith("1 of 4 timed blocks took over twice")


def test_sizes_that_did_not_settle_are_named():
    (text,) = name([probe((1.0, 2.0), is_steady=False), probe((1.0, 2.0), size=4, is_steady=False)])
    assert text.endswith("at batch 4, 8")
