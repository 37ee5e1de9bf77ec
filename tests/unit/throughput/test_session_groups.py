import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.memory.data import Probe
from advisor.throughput.disturbances import find_two_groups, measure_session_levels


def probe(session, size, *step_times_s):
    return Probe(
        stage="throughput",
        session=session,
        micro_batch_size=size,
        outcome="fit",
        step_times_s=step_times_s,
    )


@pytest.mark.parametrize("sessions", [4, 5, 6, 8, 12, 20, 25])
def test_one_speed_passes_for_two_in_about_one_of_fifty_cases(sessions):
    rng, cases = np.random.default_rng(sessions), 1500
    draws = 0.2 * rng.standard_normal((cases, sessions))
    found = sum(find_two_groups(levels.tolist()) is not None for levels in draws)
    assert found <= 0.035 * cases


@pytest.mark.parametrize("sessions", [6, 8, 12])
def test_two_speeds_12_percent_apart_are_found_through_1_percent_of_noise(sessions):
    rng, cases = np.random.default_rng(sessions), 200
    slow = np.arange(sessions) % 2 * math.log(1.12)
    draws = slow + 0.01 * rng.standard_normal((cases, sessions))
    found = [find_two_groups(levels.tolist()) for levels in draws]
    named = [groups for groups in found if groups is not None]
    assert len(named) >= 0.9 * cases
    assert np.median([groups.gap_fraction for groups in named]) == pytest.approx(0.12, abs=0.01)


def test_two_speeds_that_are_close_or_of_a_single_session_are_not_named():
    assert find_two_groups((0.0, 0.0, 0.04, 0.04)) is None
    assert find_two_groups((0.0, 0.001, 0.002, 0.2)) is None
    assert find_two_groups((0.0, 0.0, 0.1)) is None
    assert find_two_groups(()) is None


def test_groups_without_any_scatter_are_told_apart():
    groups = find_two_groups((0.0, 0.1, 0.0, 0.1, 0.0))
    assert groups is not None
    assert (groups.fast, groups.slow) == (3, 2)
    assert groups.gap_fraction == pytest.approx(math.expm1(0.1))


@given(st.lists(st.floats(-1.0, 1.0), min_size=4, max_size=30), st.floats(-3.0, 3.0))
def test_a_machine_that_is_slower_throughout_has_the_same_groups(levels, shift):
    before = find_two_groups(levels)
    after = find_two_groups([level + shift for level in levels])
    if before is not None and after is not None:
        assert before.gap_fraction == pytest.approx(after.gap_fraction, rel=1e-6)
        assert (before.fast, before.slow) == (after.fast, after.slow)


def test_levels_are_those_of_the_sessions_whatever_disturbs_a_block():
    slower = {0: 1.0, 1: 1.1, 2: 1.0, 3: 1.1}
    probes = [
        probe(session, size, 5.0 * size * factor, size * factor, 1.2 * size * factor)
        for session, factor in slower.items()
        for size in (1, 2, 4)
    ]
    levels = measure_session_levels(probes)
    assert levels[1] - levels[0] == pytest.approx(math.log(1.1))
    assert levels[2] == pytest.approx(levels[0])
    assert sum(sorted(levels)[1:3]) == pytest.approx(0.0, abs=1e-9)


def test_sessions_that_timed_other_sizes_are_compared_all_the_same():
    sizes = {0: (1, 2, 4), 1: (1, 2, 8), 2: (2, 4, 8), 3: (1, 4, 8)}
    probes = [
        probe(session, size, size * (1.2 if session == 3 else 1.0))
        for session, timed in sizes.items()
        for size in timed
    ]
    levels = measure_session_levels(probes)
    assert levels[3] - levels[0] == pytest.approx(math.log(1.2), abs=1e-3)
    assert levels[1] == pytest.approx(levels[2], abs=1e-3)


def test_no_probes_have_no_levels():
    assert measure_session_levels([]) == ()
    assert measure_session_levels([probe(0, 8)]) == ()
