"""How much of each iterate is worth measuring, from gradients whose noise scale is known."""

import math

import pytest

from advisor.noise.data import Trajectory
from advisor.noise.iterates import Rounds
from tests.unit.noise.drawn import draw_gradients, split

STEP = {"micro_batch_size": 16, "budget_s": 60.0}


def see(noise_scale, seed=0, size=16):
    gradients, _ = draw_gradients(8000, noise_scale=noise_scale, seed=seed)
    return split(gradients, [size] * (8000 // size))


def test_before_any_iterate_one_micro_batch_of_each_group_is_seen():
    rounds = Rounds(Trajectory(**STEP, points=(0, 10)))
    assert rounds.choose(8, 16, most=100) == 1
    rounds.note(None)  # an iterate whose gradients were not finite
    assert rounds.choose(8, 16, most=100) == 1


@pytest.mark.parametrize(("points", "times"), [(1, 5.0), (10, 3.0), (64, 1.0)])
def test_a_trajectory_sees_thirty_times_the_noise_scale(points, times):
    rounds = Rounds(Trajectory(**STEP, points=tuple(range(points))))
    for seed in range(8):
        rounds.note(see(400.0, seed))
    assert 8 * 16 * rounds.choose(8, 16, most=10**6) == pytest.approx(times * 400.0, rel=0.35)


def test_a_step_of_training_is_seen_twice_however_small_the_noise_and_no_more_than_allowed():
    rounds = Rounds(Trajectory(**STEP, points=tuple(range(64))))
    for seed in range(8):
        rounds.note(see(60.0, seed, size=200))
    assert rounds.choose(8, 1, most=100) == 2 * 200 / 8
    assert rounds.choose(8, 200, most=100) == 1
    assert rounds.choose(8, 1, most=3) == 3


def test_another_training_begins_with_twice_what_the_last_iterate_saw():
    rounds = Rounds(Trajectory(**STEP, checkpoints=("one.pt", "two.pt")))
    rounds.note(see(400.0))
    rounds.forget()
    assert rounds.choose(8, 16, most=10**6) == math.ceil(2.0 * 8000 / (8 * 16))


@pytest.mark.parametrize(("point", "span"), [(0, (0, 13)), (12, (0, 13)), (13, (13, 25))])
def test_a_point_stands_for_the_span_that_it_lies_in(point, span):
    path = Trajectory(**STEP, edges=(0, 13, 25))
    assert path.label_span(point) == {"stands_for": span}
    assert Trajectory(**STEP).label_span(point) == {}
