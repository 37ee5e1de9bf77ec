import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.throughput.conclude import conclude_throughput
from advisor.throughput.step_law import choose_law, fit_laws, tabulate
from advisor.throughput.step_time import (
    StepTimes,
    compare_step_s,
    estimate_step_s,
    read_throughput,
)
from tests.unit.throughput.curves import DOUBLINGS, affine, measure

LAWS = {
    "affine": affine(5e-3, 1e-4),
    "floor": lambda size: max(2e-3, 1e-3 + 3e-5 * size),
    "cliff": lambda size: 1e-3 + 1e-4 * size + 2e-4 * max(size - 100, 0),
    "concave": lambda size: 1e-3 + 2e-4 * min(size, 60) + 5e-5 * max(size - 60, 0),
    "curved": lambda size: 5e-3 + 1e-4 * size + 3e-7 * size**2,
    "stairs": lambda size: 1e-3 + 4e-3 * math.ceil(size / 48),
    "jumps": lambda size: 1e-3 * {1: 1.0, 2: 1.2, 4: 2.5, 8: 2.6, 16: 7.0}.get(size, size / 2),
}


def read(probes):
    found = conclude_throughput(probes, largest_micro_batch_size=None, range_end="dataset")
    return read_throughput(found)


@pytest.mark.parametrize("name", LAWS)
def test_every_law_is_met_at_the_timed_sizes_and_never_decreases(name):
    law = LAWS[name]
    times = read(measure(law, noise=0.003, common=0.1))
    ratios = [estimate_step_s(times, size) / law(size) for size in DOUBLINGS]
    assert max(ratios) / min(ratios) == pytest.approx(1.0, abs=0.05)
    curve = [estimate_step_s(times, size) for size in range(1, 1200)]
    assert curve == sorted(curve)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), noise=st.floats(0.0, 0.5))
def test_no_noise_makes_a_step_faster_at_a_larger_batch(seed, noise):
    rng = np.random.default_rng(seed)
    step_s = np.exp(noise * rng.standard_normal(6)) * (1e-3 + 1e-5 * np.array(DOUBLINGS[4:]))
    timed = (DOUBLINGS[4:], step_s.tolist(), [0.01] * 6)
    law = choose_law(fit_laws(*timed), *timed)
    curve = law.evaluate(np.arange(1, 2000))
    assert (np.diff(curve) >= -1e-12).all()
    assert (curve > 0.0).all()


@pytest.mark.parametrize("name", ["affine", "floor", "curved", "stairs"])
def test_the_errors_of_ratios_hold_the_truth(name):
    law, held, count = LAWS[name], 0, 20
    for seed in range(count):
        times = read(measure(law, noise=0.02, common=0.1, seed=seed))
        ratio, error = compare_step_s(times, (32, 1), (256, 1))
        held += abs(ratio - math.log(law(32) / law(256))) <= 2.0 * error
    assert held >= 0.85 * count


@pytest.mark.parametrize("share", [1 / 32, 1 / 16, 1.0])
def test_a_session_slowed_by_half_hardly_moves_a_ratio(share):
    law = LAWS["affine"]
    for seed in range(20):
        probes = measure(law, noise=0.005, seed=seed)
        slow = [
            msgspec.structs.replace(probe, step_times_s=(1.5 * probe.step_times_s[0],))
            if probe.session == 1 and probe.micro_batch_size < share * 1024
            else probe
            for probe in probes
        ]
        times = read(slow)
        for size in DOUBLINGS[:-1]:
            ratio, _ = compare_step_s(times, (size, 1), (512, 1))
            assert ratio == pytest.approx(math.log(law(size) / law(512)), abs=math.log(1.05))


def test_an_accumulated_step_makes_its_passes_and_one_optimizer_step():
    times = StepTimes(step_s={2: 4.0, 4: 6.0}, optimizer_step_s=1.5, optimizer_step_error_s=0.1)
    assert estimate_step_s(times, 2, 5) == pytest.approx(5 * 2.5 + 1.5)
    assert estimate_step_s(times, 3, 2) == pytest.approx(2 * 3.5 + 1.5)
    assert estimate_step_s(StepTimes(step_s={2: 4.0}), 2, 5) == pytest.approx(20.0)
    ratio, error = compare_step_s(times, (2, 5), (4, 1))
    assert ratio == pytest.approx(math.log(14.0 / 6.0))
    assert error == pytest.approx(4 * 0.1 / 14.0)
    assert compare_step_s(times, (2, 5), (2, 5)) == (0.0, 0.0)


def test_without_a_law_times_lie_on_a_line_and_beyond_the_timed_sizes_in_proportion():
    times = StepTimes(step_s={8: 10.0, 2: 4.0, 4: 6.0})
    assert estimate_step_s(times, 6) == pytest.approx(8.0)
    assert estimate_step_s(times, 16) == pytest.approx(20.0)
    assert estimate_step_s(times, 1) == pytest.approx(4.0)
    assert estimate_step_s(times, 16, may_extrapolate=False) is None
    assert estimate_step_s(times, 8, may_extrapolate=False) == pytest.approx(10.0)
    assert estimate_step_s(StepTimes(step_s={}), 8) is None
    assert compare_step_s(StepTimes(step_s={}), (8, 1), (4, 1)) is None


def test_a_time_below_that_of_a_smaller_batch_is_pooled_with_it():
    assert tabulate((1, 2, 4), (1.0, 3.0, 2.0)).evaluate([1, 2, 4]) == pytest.approx(
        [1.0, math.sqrt(6.0), math.sqrt(6.0)]
    )
