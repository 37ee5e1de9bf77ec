import math

import numpy as np
import pytest

from advisor.noise_floor.plan import conclude_noise_floor
from tests.unit.noise_floor.timed_sessions import conclusions_of, session


def compare(probes):
    return conclude_noise_floor(conclusions_of(probes))


def test_the_spread_is_that_of_the_sessions():
    steps = [math.exp(value) for value in (0.01, -0.01, 0.02, -0.02, 0.0)]
    found = compare([session(n, step_s) for n, step_s in enumerate(steps)])
    assert found is not None
    assert found.sessions == 5
    assert found.spread_fraction == pytest.approx(np.std((0.01, -0.01, 0.02, -0.02, 0.0), ddof=1))
    assert list(found.smallest_effects) == [4, 7, 10]
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
