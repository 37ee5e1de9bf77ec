import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.loader.data import LoaderTiming
from advisor.loader.plan import choose_next_workers, conclude_loader
from advisor.statistics import compare_rates
from tests.unit.loader.timings import MOST, SIZE, make_timing, run


def test_nothing_is_concluded_from_nothing():
    assert conclude_loader([]) is None
    assert choose_next_workers([], most_workers=MOST) is None


def test_a_loader_that_is_much_faster_than_the_step_keeps_up():
    timings = run(load_s=0.001, step_s=0.1)
    conclusion = conclude_loader(timings)
    assert len(timings) == 1
    assert conclusion.status == "keeps_up"
    assert conclusion.workers_needed is None
    assert conclusion.advised_workers is None


def test_a_loader_as_fast_as_the_step_is_the_limit_without_workers_and_not_with_one():
    timings = run(load_s=0.1, step_s=0.101)
    conclusion = conclude_loader(timings)
    assert [timing.workers for timing in timings] == [0, 1]
    assert conclusion.points[0].loss_fraction.point == pytest.approx(0.5, rel=0.01)
    assert (conclusion.status, conclusion.workers_needed) == ("limits", 1)
    assert conclusion.is_verified
    assert conclusion.advised_workers == 1


@given(
    needed=st.floats(0.4, 15.9),
    step_s=st.floats(0.001, 1.0),
    noise=st.sampled_from([0.0, 0.003, 0.01, 0.03]),
    seed=st.integers(0, 10_000),
)
def test_the_workers_needed_are_right_within_one(needed, step_s, noise, seed):
    law = {"load_s": needed * step_s, "step_s": step_s, "noise": noise, "seed": seed}
    timings = run(**law)
    conclusion = conclude_loader(timings)
    assert conclusion.status == "limits"
    assert abs(conclusion.workers_needed - math.ceil(needed)) <= 1
    assert conclusion.advised_workers is None or conclusion.find_point(conclusion.advised_workers)
    assert len({timing.workers for timing in timings}) == len(timings) <= 4


@given(own=st.integers(1, 6), needed=st.floats(1.2, 12.0), noise=st.sampled_from([0.0, 0.01]))
def test_workers_of_the_own_loader_count_as_well(own, needed, noise):
    timings = run(own, load_s=needed * 0.1, step_s=0.1, noise=noise)
    conclusion = conclude_loader(timings)
    assert conclusion.own_workers == own
    if own < needed * 0.9:
        assert conclusion.status == "limits"
        assert abs(conclusion.workers_needed - math.ceil(needed)) <= 1
    if own > needed * 1.1:
        assert conclusion.status == "keeps_up"
        assert conclusion.advised_workers == own


@given(noise=st.sampled_from([0.0, 0.01, 0.03]), seed=st.integers(0, 10_000))
def test_a_loader_well_within_the_tolerance_is_never_the_limit(noise, seed):
    (timing,) = run(load_s=0.002, step_s=0.1, noise=noise, seed=seed)
    assert conclude_loader([timing]).status == "keeps_up"


def test_a_training_that_slowed_for_other_reasons_is_not_held_against_the_loader():
    timing = LoaderTiming(
        workers=0,
        micro_batch_size=SIZE,
        is_own=True,
        alone_samples_per_s=(5000.0, 5000.0),
        training_samples_per_s=(100.0, 101.0, 100.0, 101.0),
        together_samples_per_s=(50.0, 51.0),
        waiting_fractions=(0.01, 0.08),
    )
    assert conclude_loader([timing]).status == "inconclusive"
    assert choose_next_workers([timing], most_workers=MOST) is None


def test_computing_does_not_scale_beyond_the_processors():
    timings = run(load_s=1.0, step_s=0.1, cores=2, waits=False)
    conclusion = conclude_loader(timings)
    assert [timing.workers for timing in timings] == [0, 10, 2]
    assert conclusion.does_scale is False
    assert conclusion.workers_needed is None
    assert conclusion.is_verified is None
    assert conclusion.advised_workers == 2  # as fast as ten, and twice as fast as none


def test_handing_over_that_takes_as_long_as_loading_is_told_from_it():
    timings = run(load_s=0.1, step_s=0.03, handing_s=0.1)
    conclusion = conclude_loader(timings)
    assert [timing.workers for timing in timings] == [0, 4]
    assert conclusion.does_scale is False
    assert conclusion.workers_needed is None
    assert conclusion.advised_workers is None


def test_more_workers_than_may_be_started_are_named_but_not_timed():
    timings = run(load_s=5.0, step_s=0.1)
    conclusion = conclude_loader(timings)
    assert [timing.workers for timing in timings] == [0, 16]
    assert conclusion.workers_needed == 50
    assert conclusion.is_verified is None
    assert conclusion.advised_workers == 16


def test_loading_that_slows_with_each_worker_is_followed_once():
    timings = [
        make_timing(0, load_s=0.4, step_s=0.1, is_own=True),
        make_timing(4, load_s=0.6, step_s=0.1),
    ]
    assert choose_next_workers(timings, most_workers=MOST) == 6
    timings.append(make_timing(6, load_s=0.6, step_s=0.1))
    assert choose_next_workers(timings, most_workers=MOST) is None
    conclusion = conclude_loader(timings)
    assert (conclusion.workers_needed, conclusion.is_verified) == (6, True)
    assert conclusion.does_scale is True


def test_workers_that_leave_training_waiting_are_not_verified():
    timings = [
        make_timing(0, load_s=0.2, step_s=0.1, is_own=True),
        make_timing(2, load_s=0.2, step_s=0.1),
    ]
    both = tuple(0.8 * rate for rate in timings[1].together_samples_per_s)
    timings[1] = LoaderTiming(
        workers=2,
        micro_batch_size=SIZE,
        alone_samples_per_s=timings[1].alone_samples_per_s,
        training_samples_per_s=timings[1].training_samples_per_s,
        together_samples_per_s=both,
        waiting_fractions=(0.2,) * 4,
    )
    conclusion = conclude_loader(timings)
    assert (conclusion.workers_needed, conclusion.is_verified) == (2, False)
    assert conclusion.advised_workers == 2  # better than none all the same


def test_a_failure_ends_the_choice_and_is_told():
    own = make_timing(0, load_s=0.2, step_s=0.1, is_own=True)
    failed = LoaderTiming(workers=2, micro_batch_size=SIZE, message="RuntimeError: bus error")
    assert choose_next_workers([own, failed], most_workers=MOST) is None
    conclusion = conclude_loader([own, failed])
    assert conclusion.status == "limits"
    assert conclusion.message == "RuntimeError: bus error"
    assert conclusion.advised_workers is None
    assert [point.workers for point in conclusion.points] == [0]


def test_a_loader_that_failed_as_it_is_leaves_the_answer_open():
    failed = LoaderTiming(workers=0, micro_batch_size=SIZE, is_own=True, message="no full batch")
    conclusion = conclude_loader([failed])
    assert conclusion.status == "inconclusive"
    assert conclusion.points == ()
    assert choose_next_workers([failed], most_workers=MOST) is None


def test_one_window_does_not_tell():
    timing = make_timing(0, load_s=0.2, step_s=0.1, windows=1, is_own=True)
    assert conclude_loader([timing]).status == "inconclusive"


def test_the_ratio_of_rates_needs_windows_on_both_sides():
    assert compare_rates([], [1.0]).point is None
    assert compare_rates([2.0], [1.0, 1.0]).point == 2.0
    assert compare_rates([2.0], [1.0, 1.0]).low is None
    assert compare_rates([2.0, 2.0], [1.0, 1.0]).low == 2.0


def test_the_interval_of_a_ratio_covers_it():
    draw = random.Random(0)
    hits = 0
    for _ in range(400):
        rates = [math.exp(draw.gauss(math.log(0.8), 0.05)) for _ in range(4)]
        reference = [math.exp(draw.gauss(0.0, 0.05)) for _ in range(4)]
        ratio = compare_rates(rates, reference)
        hits += ratio.low <= 0.8 <= ratio.high
    assert hits >= 0.93 * 400
