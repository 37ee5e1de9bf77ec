import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.soak.plan import LEAST_RISE_BYTES, LEAST_STEPS, fit_growth

MIB = 2**20
CASES = 400


def count_alarms(make):
    """Return the share of random runs without a leak that are called one."""
    alarms = [fit_growth(make(np.random.default_rng(seed))) is not None for seed in range(CASES)]
    return sum(alarms) / CASES


def make_noise(random, steps=60, size=MIB):
    return 100 * MIB + random.normal(0.0, size, steps)


def make_jumps(random, jumps, steps=60):
    values = make_noise(random, steps, size=4096)
    for _ in range(jumps):
        values[random.integers(0, steps) :] += random.uniform(0.0, 50 * MIB)
    return values


def make_sawtooth(random, steps=60):
    period, phase = random.integers(2, 20), random.integers(0, 20)
    teeth = (np.arange(steps) + phase) % period
    return 100 * MIB + teeth * random.uniform(0.1, 5.0) * MIB + random.normal(0.0, 4096, steps)


def make_filling_cache(random, steps=60):
    constant = random.uniform(1.0, 12.0)
    filled = 1.0 - np.exp(-np.arange(steps) / constant)
    return 100 * MIB + random.uniform(1.0, 50.0) * MIB * filled


@pytest.mark.parametrize("steps", [LEAST_STEPS, 30, 60])
def test_noise_is_hardly_ever_a_leak(steps):
    assert count_alarms(lambda random: make_noise(random, steps)) <= 0.01


@pytest.mark.parametrize("jumps", [1, 2, 3])
def test_a_few_jumps_are_no_leak(jumps):
    assert count_alarms(lambda random: make_jumps(random, jumps)) <= 0.01


def test_a_cache_that_is_emptied_now_and_then_is_no_leak():
    assert count_alarms(make_sawtooth) <= 0.02


def test_a_cache_that_fills_up_is_no_leak():
    assert count_alarms(make_filling_cache) <= 0.02


@pytest.mark.parametrize("steps", [LEAST_STEPS, 30, 60])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_leak_is_found_with_its_slope(steps, noise):
    found = []
    for seed in range(50):
        random = np.random.default_rng(seed)
        values = np.arange(steps) * MIB + make_noise(random, steps, size=noise * MIB)
        found.append(fit_growth(values))
    hits = [each for each in found if each is not None]
    assert len(hits) >= (50 if noise == 0.0 or steps > 20 else 25)
    for each in hits:
        assert each.low <= each.point <= each.high
        assert each.point == pytest.approx(MIB, rel=0.25)
    covered = [each.low <= MIB <= each.high for each in hits]
    assert sum(covered) >= 0.8 * len(hits)


def test_a_leak_every_few_steps_is_found():
    values = [100 * MIB + step // 5 * 3 * MIB for step in range(60)]
    assert fit_growth(values).point == pytest.approx(0.6 * MIB, rel=0.1)


def test_a_leak_under_a_cache_that_is_emptied_is_found():
    steps = np.arange(60)
    growth = fit_growth(100 * MIB + steps * MIB + (steps % 4) * 2 * MIB)
    assert growth.point == pytest.approx(MIB, rel=0.1)


def test_growth_below_the_granularity_of_heaps_is_not_one():
    rise = LEAST_RISE_BYTES / 60
    assert fit_growth([100 * MIB + int(step * rise * 0.9) for step in range(60)]) is None


def test_few_steps_tell_nothing():
    assert fit_growth([step * MIB for step in range(LEAST_STEPS - 1)]) is None
    assert fit_growth([step * MIB for step in range(LEAST_STEPS)]) is not None
    assert fit_growth([]) is None


@given(st.lists(st.integers(0, 2**40), max_size=80))
def test_growth_is_positive_and_inside_its_interval(held):
    growth = fit_growth(held)
    if growth is not None:
        assert 0.0 < growth.low <= growth.point <= growth.high


@given(st.lists(st.integers(0, 2**40), max_size=80))
def test_memory_that_falls_never_grows(held):
    assert fit_growth(sorted(held, reverse=True)) is None
