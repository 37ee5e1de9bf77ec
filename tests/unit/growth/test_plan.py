"""A growing batch beside a constant one, over branches whose true times are known."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.growth.data import Growth, GrowthBranch, Leg
from advisor.growth.plan import CONSTANT_LENGTHS, GROWING_LENGTHS, compare_growth, list_lengths

SEEDS = range(3, 9)


def leg(steps, size, **more):
    return Leg(steps=steps, micro_batch_size=size, gradient_accumulation_steps=1, **more)


def make_growth(course="cosine", growing=((200, 32), (100, 64)), constant=((400, 32),)):
    growing, constant = (tuple(leg(*each) for each in legs) for legs in (growing, constant))
    return Growth(growing=growing, constant=constant, rate_course=course, learning_rate=0.1)


def time_s(legs):
    """A step at any batch takes a second."""
    return float(sum(each.steps for each in legs))


def train(growth, *, progress=lambda leg: leg.steps * leg.global_batch_size, noise=0.0, seed=0):
    """All branches; the loss falls with the progress that each leg makes."""
    draw = random.Random(seed)
    sides = [(True, growth.growing, GROWING_LENGTHS), (False, growth.constant, CONSTANT_LENGTHS)]
    return [
        GrowthBranch(
            is_growing=is_growing,
            legs=legs,
            rate_course=growth.rate_course,
            learning_rate=growth.learning_rate,
            seed=start,
            loss=sum(map(progress, legs)) ** -0.5 * math.exp(draw.gauss(0.0, noise)),
        )
        for start in SEEDS
        for is_growing, whole, fractions in sides
        for legs in list_lengths(whole, fractions, is_stretched=growth.is_stretched)
    ]


def test_as_good_samples_in_three_quarters_of_the_steps_are_three_quarters_of_the_time():
    growth = make_growth()
    seen = compare_growth(growth, train(growth), time_s)
    assert seen.starts == len(SEEDS)
    assert math.exp(seen.log_ratio) == pytest.approx(0.75, rel=0.01)


def test_steps_that_gain_nothing_by_their_batch_are_slower():
    growth = make_growth()
    branches = train(growth, progress=lambda leg: leg.steps)
    # 300 steps are 300 steps: with no gain from the samples the time to a loss is the same.
    seen = compare_growth(growth, branches, time_s)
    assert math.exp(seen.log_ratio) == pytest.approx(1.0, rel=0.01)


def test_the_interval_holds_the_truth_under_noise():
    growth = make_growth()
    hits = 0
    for seed in range(60):
        seen = compare_growth(growth, train(growth, noise=0.02, seed=seed), time_s)
        hits += abs(seen.log_ratio - math.log(0.75)) < 2.6 * seen.error
    assert hits >= 54


@pytest.mark.parametrize(
    ("growth", "lost"),
    [
        (make_growth(growing=((200, 32), (100, 128))), None),
        (make_growth("own"), None),
        (make_growth(), 4),
    ],
)
def test_other_branches_and_those_that_diverged_tell_nothing(growth, lost):
    branches = [
        GrowthBranch(
            is_growing=each.is_growing,
            legs=each.legs,
            rate_course=each.rate_course,
            learning_rate=each.learning_rate,
            seed=each.seed,
            loss=None if each.seed == lost else each.loss,
        )
        for each in train(make_growth())
    ]
    assert compare_growth(growth, branches, time_s) is None


@given(
    st.lists(st.tuples(st.integers(1, 400), st.sampled_from([8, 16, 32])), min_size=1, max_size=4),
    st.floats(0.3, 1.0),
    st.booleans(),
)
def test_shorter_branches_are_shares_or_beginnings(legs, fraction, is_stretched):
    whole = tuple(leg(*each) for each in legs)
    (short,) = list_lengths(whole, (fraction,), is_stretched=is_stretched)
    samples = [sum(each.samples for each in side) for side in (short, whole)]
    if is_stretched:
        assert len(short) == len(whole)
        assert abs(samples[0] - fraction * samples[1]) <= 32 * len(whole)
        return
    assert fraction * samples[1] - 32 * len(whole) <= samples[0] <= fraction * samples[1] + 1
    for one, other in zip(short[:-1], whole, strict=False):
        assert one == other
