"""The training along which the noise is measured."""

from pathlib import Path

import pytest

from advisor.engine.worker.entry import seed_everything
from advisor.noise import measure as gradients
from advisor.noise.data import NoiseTask, Trajectory
from advisor.training.data import WorkloadSpec

DIGITS = Path(__file__).resolve().parents[3] / "examples" / "digits.py"


def follow(host_memory_bytes=None, **split):
    found = []
    task = NoiseTask(
        workload=WorkloadSpec(target=str(DIGITS), device="cpu"),
        trajectory=Trajectory(points=(0, 6), budget_s=1000.0, **{"micro_batch_size": 8, **split}),
        micro_batch_size=8,
        groups=8,
        max_micro_batches=8,
        host_memory_bytes=host_memory_bytes,
    )
    seed_everything(0)
    gradients.run(task, found.append)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("room", "groups"), [(1 << 40, 8), (40 * 9610 * 4, 8), (31 * 9610 * 4, 0)])
def test_the_groups_take_a_quarter_of_the_memory_there_is(monkeypatch, room, groups):
    """Fewer than 8 groups carry no interval; 9610 parameters take 4 bytes each."""
    given = follow(host_memory_bytes=room)
    monkeypatch.setattr(gradients, "available_memory_bytes", lambda: room)
    for found in (given, follow()):
        assert [len(each.micro_batch_sizes) for each in found] == ([groups] * 2 if groups else [])


@pytest.mark.slow
def test_accumulated_training_passes_the_same_points_as_whole_batches():
    whole = follow(micro_batch_size=32)
    parts = follow(micro_batch_size=16, gradient_accumulation_steps=2)
    small = follow()
    assert [each.training_batch_size for each in (*whole, *parts)] == [32] * 4
    assert small[-1].training_batch_size == 8
    assert parts[-1].loss == pytest.approx(whole[-1].loss, rel=1e-4)
    assert parts[-1].plain.total_sqnorm == pytest.approx(whole[-1].plain.total_sqnorm, rel=1e-3)
    assert small[-1].loss != pytest.approx(whole[-1].loss, rel=1e-2)
