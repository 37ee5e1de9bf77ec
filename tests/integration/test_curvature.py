"""The curvature of real workers: points in the record, and a model that has none."""

from pathlib import Path

import msgspec

from advisor.engine.runner import Runner
from advisor.noise.data import NoiseBatches, NoiseTask
from advisor.training.data import WorkloadSpec, parse_target

ROOT = Path(__file__).parents[2]


def measure(target, *, micro_batch_size, sizes):
    task = NoiseTask(
        workload=WorkloadSpec(target=str(ROOT / target), device="cpu"),
        micro_batch_size=micro_batch_size,
        steps=20,
        points=(0, 20),
        groups=8,
        max_micro_batches=64,
        budget_s=200.0,  # enough on a loaded machine; an idle one ends long before
        curvature_sizes=sizes,
    )
    with Runner(parse_target(task.workload.target)) as runner:
        points = runner.run(task, timeout_s=250.0)
    return msgspec.json.decode(msgspec.json.encode(points), type=list[NoiseBatches])


def test_the_noise_points_of_digits_hold_their_curvature():
    points = measure("examples/digits.py", micro_batch_size=32, sizes=(8, 512))
    assert [point.curvature.at_step for point in points] == [0, 20]
    for point in points:
        assert point.curvature.reason is None
        assert point.curvature.converged
        assert point.curvature.preconditioned_eigenvalue is None
        assert point.curvature.samples >= 8
        assert point.curvature.micro_batch_size <= 512
    first, last = (point.curvature.largest_eigenvalue for point in points)
    assert 0.0 < first < last  # sharpness rises at first: Cohen et al. 2021


def test_a_model_without_second_derivatives_keeps_its_noise_and_says_why():
    points = measure("tests/workloads/good/sparse_adam.py", micro_batch_size=4, sizes=(8, 64))
    assert len(points) == 2
    for point in points:
        assert point.plain.total_sqnorm > 0.0
        assert point.curvature.largest_eigenvalue is None
        assert "cannot be differentiated again" in point.curvature.reason
    assert points[0].curvature.samples == 0
