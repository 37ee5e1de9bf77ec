"""The search for a pair against times of known truth."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.race.law import Law
from advisor.race.search import HIGHEST, LOWEST, Place, choose_next
from tests.unit.samples import affine, make_candidate

SIZES = tuple(2**power for power in range(3, 13))


def search(ways, measure, *, base=32, planned=None, predict=None, most=200):
    """Return all places in the order they were tried, with what `measure` gave for them."""
    by_size = {way.global_batch_size: way for way in ways}
    own = by_size.get(base, make_candidate(base, 1, 0.01))

    def predict_own(way):
        return Law(None).predict_log_ratio(way, own)

    seen = {Place(base, 0): 0.0}
    while (place := choose_next(ways, seen, predict or predict_own, planned or base)) is not None:
        assert place not in seen
        assert len(seen) < most
        seen[place] = measure(place)
    return seen


def bowl(best_size, best_step, *, width=1.0):
    """Log time, least at one place; rates far above the best do not train."""

    def measure(place):
        if place.step > best_step + 4:
            return None
        distance = math.log2(place.size / best_size) ** 2 + (place.step - best_step) ** 2 / 4
        return width * (0.1 * distance - 0.5)

    return measure


times = st.tuples(st.floats(1e-4, 1e-1), st.floats(1e-7, 1e-3))


@given(
    times, st.sampled_from(SIZES), st.integers(-4, 6), st.floats(0.2, 5.0), st.sampled_from(SIZES)
)
def test_a_search_ends_and_stays_where_it_may(seconds, best_size, best_step, width, planned):
    ways = affine(SIZES, *seconds)
    measure = bowl(best_size, best_step, width=width)
    seen = search(ways, measure, planned=planned)
    assert {place.size for place in seen} <= set(SIZES)
    assert all(LOWEST - 2 <= place.step <= HIGHEST for place in seen)
    for size in {place.size for place in seen}:
        order = [place for place in seen if place.size == size]
        failed = [place.step for place in order if seen[place] is None]
        for index, place in enumerate(order):
            before = [p.step for p in order[:index] if seen[p] is None]
            assert not before or place.step < min(before)  # no rate above one that failed
        assert len(failed) <= 6


@given(st.sampled_from([size for size in SIZES if size >= 32]), st.integers(-1, 4))
def test_the_best_place_is_found_where_steps_cost_the_same(best_size, best_step):
    # Times per step that hardly grow leave every larger batch open.
    seen = search(affine(SIZES, 1.0, 1e-6), bowl(best_size, best_step), planned=best_size)
    known = {place: value for place, value in seen.items() if value is not None}
    best = min(known, key=known.get)
    assert abs(math.log2(best.size / best_size)) <= 1
    assert abs(best.step - best_step) <= 2


@given(st.sampled_from(SIZES), st.integers(-2, 4))
def test_no_larger_batch_is_tried_where_samples_are_no_faster(planned, best_step):
    ways = affine(SIZES, 0.0, 1e-3)  # the time of a sample is the same at any batch
    seen = search(ways, bowl(1024, best_step), planned=planned)
    assert max(place.size for place in seen) == 32


@given(st.sampled_from(SIZES), st.integers(-2, 4))
def test_no_smaller_batch_is_tried_where_a_step_takes_as_long(planned, best_step):
    ways = affine(SIZES, 1.0, 0.0)
    seen = search(ways, bowl(8, best_step), planned=planned)
    assert min(place.size for place in seen) == 32


def test_the_batch_that_the_law_names_comes_first_where_it_names_a_large_gain():
    ways = affine(SIZES, 1.0, 1e-6)
    predict = {way.global_batch_size: -0.1 for way in ways} | {32: 0.0, 256: -1.0}
    order = [
        *search(ways, bowl(256, 0), planned=256, predict=lambda w: predict[w.global_batch_size])
    ]
    assert order[1] == Place(256, 0)


def test_a_batch_that_the_law_rules_out_is_not_tried():
    ways = affine(SIZES, 1.0, 1e-6)
    seen = search(
        ways, bowl(64, 0), predict=lambda way: 0.0 if way.global_batch_size == 32 else 3.0
    )
    assert {place.size for place in seen} == {32}


def test_a_batch_that_does_not_train_at_the_rules_rate_is_entered_below_it():
    def measure(place):
        if place.size == 32:
            return 0.1 * place.step**2
        return None if place.step > -3 else -0.7

    seen = search(affine((32, 128), 1.0, 1e-6), measure, planned=128)
    assert any(value == -0.7 for value in seen.values())


def test_a_given_batch_alone_is_searched_from_the_rules_rate():
    ways = affine((512,), 1.0, 1e-6)
    order = [*search(ways, bowl(512, 2), planned=512)]
    assert order[:2] == [Place(32, 0), Place(512, 0)]
    assert {place.size for place in order[1:]} == {512}
    assert any(place.step == 2 for place in order)


@pytest.mark.parametrize("lowest", [-2, -5])
def test_a_given_batch_goes_down_until_a_rate_trains(lowest):
    ways = affine((512,), 1.0, 1e-6)
    seen = search(ways, lambda place: -0.1 if place.step <= lowest else None, planned=512)
    assert any(value == -0.1 for value in seen.values())
    never = search(ways, lambda place: None, planned=512)
    assert min(place.step for place in never) >= LOWEST
