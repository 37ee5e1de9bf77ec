import math

import numpy as np
import pytest

from advisor.noise_floor.plan import conclude_noise_floor, predict_smallest_effect
from advisor.statistics import two_sided_t
from tests.unit.noise_floor.timed_sessions import conclusions_of, session


def compare(probes):
    return conclude_noise_floor(conclusions_of(probes))


def test_the_spread_is_that_of_the_sessions():
    steps = [math.exp(value) for value in (0.01, -0.01, 0.02, -0.02, 0.0)]
    found = compare([session(n, step_s) for n, step_s in enumerate(steps)])
    assert found is not None
    assert found.sessions == 5
    assert found.spread_fraction == pytest.approx(np.std((0.01, -0.01, 0.02, -0.02, 0.0), ddof=1))
    assert list(found.smallest_effects) == [3, 5, 10, 20]
    assert sorted(found.smallest_effects.values(), reverse=True) == list(
        found.smallest_effects.values()
    )


def test_nothing_timed_says_nothing_and_one_session_no_spread():
    assert compare([]) is None
    alone = compare([session(0, 0.1)])
    assert alone is not None
    assert alone.spread_fraction is None
    assert alone.smallest_effects == {}


def test_the_interval_of_a_over_a_holds_one():
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        steps = np.exp(0.02 * rng.standard_normal(10))
        found = compare([session(n, float(step)) for n, step in enumerate(steps)])
        assert found is not None
        held += found.ratio.low <= 1.0 <= found.ratio.high
    assert 0.925 * 400 <= held <= 0.985 * 400


@pytest.mark.parametrize("sessions", [3, 5, 20])
def test_the_smallest_effect_is_found_in_four_of_five_cases(sessions):
    spread, cases = 0.01, 4000
    effect = math.log1p(predict_smallest_effect(spread, sessions))
    rng = np.random.default_rng(sessions)
    sides = spread * rng.standard_normal((2, cases, sessions))
    sides[1] += effect
    difference = sides[1].mean(axis=1) - sides[0].mean(axis=1)
    error = np.sqrt(sides.var(axis=2, ddof=1).sum(axis=0) / sessions)
    found = np.abs(difference) > two_sided_t(0.95, 2 * sessions - 2) * error
    assert found.mean() == pytest.approx(0.8, abs=0.05)
