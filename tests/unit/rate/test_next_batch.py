import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.rate.search import choose_next_batch

SIZES = tuple(2**k for k in range(12))


def walk(train_s, step_s, start, base=None):
    """Return the seconds of each batch tried, None for those that do not train."""
    tried = {}
    while (size := choose_next_batch(step_s, start, tried, base)) is not None:
        assert size in step_s
        assert size not in tried
        tried[size] = train_s(size)
    return tried


def law(half_saturation, noise_scale):
    """Return step times t = a + B and times to train (1 + φ/B)·t."""
    step_s = {size: half_saturation + size for size in SIZES}
    return step_s, lambda size: (1.0 + noise_scale / size) * step_s[size]


@given(
    half_saturation=st.floats(0.1, 1e4),
    noise_scale=st.floats(0.1, 1e5),
    start=st.sampled_from(SIZES),
)
def test_the_walk_ends_near_the_batch_of_least_time(half_saturation, noise_scale, start):
    step_s, train_s = law(half_saturation, noise_scale)
    tried = walk(train_s, step_s, start)
    # Each step that is left out could gain 5 % at most, and the gains get smaller.
    assert min(tried.values()) <= 1.15 * min(train_s(size) for size in SIZES)


def test_a_batch_whose_neighbours_cannot_be_faster_is_the_only_one_tried():
    step_s = {64: 0.99, 128: 1.0, 256: 1.94}
    assert list(walk(lambda size: 1.0, step_s, 128)) == [128]


def test_no_larger_batch_is_tried_where_speed_is_saturated():
    assert choose_next_batch({64: 64.0, 128: 128.0}, 64, {64: 1.0}) is None


def test_where_steps_take_equally_long_no_smaller_batch_is_tried():
    assert choose_next_batch({64: 1.0, 128: 1.0}, 128, {128: 1.0}) is None


def test_below_a_batch_that_does_not_train_smaller_ones_are_tried_until_one_does():
    step_s, train_s = law(1000.0, 1000.0)
    tried = walk(lambda size: train_s(size) if size <= 128 else None, step_s, 1024)
    assert list(tried) == [1024, 512, 256, 128, 64]


def test_where_nothing_trains_the_smallest_batch_is_the_last():
    assert list(walk(lambda size: None, dict.fromkeys((32, 64, 128), 1.0), 128)) == [128, 64, 32]


def test_a_base_pair_that_is_faster_draws_the_walk_to_its_neighbours():
    step_s = dict.fromkeys(SIZES, 1.0)
    assert choose_next_batch(step_s, 512, {512: 10.0}, (32, 1.0)) == 64
    assert choose_next_batch(step_s, 512, {512: 10.0, 1024: 11.0}, (33, 1.0)) is None


@pytest.mark.parametrize(("sizes", "neighbour"), [((100, 130, 220), 220), ((100, 350), 350)])
def test_the_neighbour_is_the_one_nearest_to_the_double_that_is_not_too_close(sizes, neighbour):
    step_s = dict.fromkeys(sizes, 1.0)
    assert choose_next_batch(step_s, 100, {100: 1.0}) == neighbour
