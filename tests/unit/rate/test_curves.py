import math

import pytest

from advisor.rate.curves import average_curves, find_samples_to
from advisor.rate.data import Evaluation, TrialBranch


def branch(losses, seed=0):
    return TrialBranch(
        micro_batch_size=10,
        gradient_accumulation_steps=1,
        global_batch_size=10,
        learning_rate=1.0,
        seed=seed,
        samples=100 * (len(losses) - 1),
        evaluations=tuple(
            Evaluation(samples=100 * index, loss=loss) for index, loss in enumerate(losses)
        ),
        diverged=False,
    )


def test_the_average_begins_with_the_first_loss_and_ends_on_the_end():
    branches = [branch((2.0, 1.0, 0.8, 0.6, 0.4)), branch((4.0, 1.0, 0.6, 0.4, 0.2), seed=1)]
    curve = average_curves(branches)
    assert [point.samples for point in curve] == [0, 100, 200, 300]
    assert [point.loss for point in curve] == pytest.approx([3.0, 1.0, 2.2 / 3, 0.5])
    ends = [each.end for each in branches]
    assert curve[-1].samples == ends[0].samples
    assert curve[-1].loss == pytest.approx(sum(end.loss for end in ends) / 2)


@pytest.mark.parametrize("losses", [(1.0,), (1.0, 0.5), (1.0, 0.5, 0.4)])
def test_a_short_branch_has_a_curve_all_the_same(losses):
    curve = average_curves([branch(losses)])
    assert curve[0].loss == 1.0
    assert all(math.isfinite(point.loss) for point in curve)


def test_a_loss_is_reached_between_evaluations_the_first_time():
    curve = branch((2.0, 1.0, 1.5, 0.5)).evaluations
    assert find_samples_to(curve, 1.25) == 75.0
    assert find_samples_to(curve, 0.75) == 275.0
    assert find_samples_to(curve, 0.4) is None
    assert find_samples_to(curve, 3.0) == 0.0
    assert find_samples_to((), 1.0) is None
