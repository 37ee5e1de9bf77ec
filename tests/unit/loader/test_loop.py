"""Where the loop is timed, and what its sessions say together."""

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.loader.data import LoopTiming
from advisor.loader.loop import conclude_loop, interpolate
from advisor.loader.plan import choose_loop_sizes, choose_micro_batch
from tests.unit.loader.timings import make_loop_timing
from tests.unit.samples import FACTS, make_facts


def test_nothing_is_known_of_a_loop_that_gave_no_step():
    assert conclude_loop([]) is None
    none = LoopTiming(workers=2, is_in_memory=False, message="a worker died")
    assert conclude_loop([none]) is None
    timed = make_loop_timing((8, 16), [(1.0, 1.0), (2.0, 2.0)])
    assert conclude_loop([timed, none]) == conclude_loop([timed])


@given(
    steps=st.lists(st.floats(1e-4, 1.0), min_size=3, max_size=3),
    slow=st.floats(0.3, 3.0),
    seed=st.integers(0, 1000),
)
def test_sessions_that_share_a_size_are_brought_to_one_level(steps, slow, seed):
    draw = random.Random(seed)

    def time(sizes, factor):
        rounds = [
            [factor * steps[size] * math.exp(draw.gauss(0.0, 0.01)) for _ in range(9)]
            for size in sizes
        ]
        return make_loop_timing([10 + size for size in sizes], rounds)

    found = conclude_loop([time((0, 1), 1.0), time((0, 2), slow)])
    assert found.micro_batch_sizes == (10, 11, 12)
    for size in (1, 2):
        ratio = found.step_s[size] / found.step_s[0]
        assert ratio == pytest.approx(steps[size] / steps[0], rel=0.05)
        assert 0.0 < found.compare(10, 10 + size) < 0.04
    assert found.compare(11, 12) is None  # in no session together
    assert found.compare(11, 11) == 0.0
    # The level lies between those of the sessions.
    levels = sorted((steps[0], slow * steps[0]))
    assert 0.9 * levels[0] <= found.step_s[0] <= 1.1 * levels[1]


@given(st.floats(1.0, 1e4))
def test_values_are_interpolated_over_the_log_and_held_outside(size):
    sizes, values = (4, 16, 64), (0.0, 1.0, 3.0)
    found = interpolate(size, sizes, values)
    if size <= 4 or size >= 64:
        assert found == (0.0 if size <= 4 else 3.0)
    elif size <= 16:
        assert found == pytest.approx(math.log(size / 4) / math.log(4))
    else:
        assert found == pytest.approx(1.0 + 2.0 * math.log(size / 16) / math.log(4))


@given(
    base=st.one_of(st.none(), st.integers(1, 5000)),
    largest=st.integers(1, 5000),
    multiple=st.integers(1, 16),
    data=st.one_of(st.none(), st.integers(1, 10_000)),
)
def test_the_loop_is_timed_at_sizes_that_ran(base, largest, multiple, data):
    facts = make_facts(base_batch_size=base, dataset_size=data)
    size = choose_micro_batch(facts, largest, batch_multiple=multiple)
    most = min(largest, data or largest)
    assert (size is None) == (most < multiple)
    if size is None:
        return
    assert size % multiple == 0
    assert size <= most
    timed = sorted({multiple, size, most // multiple * multiple})
    sizes = choose_loop_sizes(size, timed, batch_multiple=multiple)
    assert sizes[0] == size
    assert all(timed[0] <= each <= timed[-1] and each % multiple == 0 for each in sizes)
    assert all(other >= 1.5 * one for one, other in pairwise(sorted(sizes)))


def test_without_a_size_that_ran_there_is_none():
    assert choose_micro_batch(FACTS, None, batch_multiple=1) is None


def test_rounds_that_are_not_of_all_sizes_are_refused():
    with pytest.raises(ValueError, match="as many rounds"):
        make_loop_timing((8, 16), [(1.0, 1.0), (2.0,)])
