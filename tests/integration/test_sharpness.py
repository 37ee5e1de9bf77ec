"""The sharpness of real workers: points in the record, and a model that has none."""

from pathlib import Path

import pytest

from advisor.noise.data import Trajectory
from advisor.sharpness.data import SharpnessTask
from advisor.training.data import WorkloadSpec

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def measure(runner, target, *, training_size, micro_batch_size):
    task = SharpnessTask(
        workload=WorkloadSpec(target=str(ROOT / target), device="cpu"),
        trajectory=Trajectory(
            micro_batch_size=training_size,
            points=(0, 20),
            budget_s=200.0,  # enough on a loaded machine; an idle one ends long before
        ),
        micro_batch_size=micro_batch_size,
    )
    return runner.run(task, timeout_s=250.0)


def test_the_points_of_digits_have_their_sharpness(runner):
    points = measure(runner, "examples/digits.py", training_size=32, micro_batch_size=512)
    assert [point.at_step for point in points] == [0, 20]
    for point in points:
        assert point.reason is None
        assert point.converged
        assert point.preconditioned_eigenvalue is None
        assert (point.samples, point.micro_batch_size) == (3 * 512, 512)
    first, last = (point.largest_eigenvalue for point in points)
    assert 0.0 < first < last  # sharpness rises at first: Cohen et al. 2021


def test_a_model_without_second_derivatives_says_why(runner):
    points = measure(
        runner, "tests/workloads/good/sparse_adam.py", training_size=4, micro_batch_size=64
    )
    assert len(points) == 2
    for point in points:
        assert point.largest_eigenvalue is None
        assert point.samples == 0
        assert "cannot be differentiated again" in point.reason
