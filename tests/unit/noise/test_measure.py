"""The training along which the noise is measured."""

from pathlib import Path

import pytest

from advisor.noise import measure as gradients
from advisor.noise import measure_rows
from advisor.noise.data import FreeMemory, NoiseTask, Trajectory
from advisor.training.data import WorkloadSpec
from advisor.training.model_file.order import seed_everything
from advisor.training.model_file.workload import Workload

DIGITS = Path(__file__).resolve().parents[3] / "examples" / "digits.py"


def follow(host_bytes=None, **split):
    found = []
    task = NoiseTask(
        workload=WorkloadSpec(target=str(DIGITS), device="cpu"),
        trajectory=Trajectory(
            **{"points": (0, 6), "budget_s": 1000.0, "micro_batch_size": 8, **split}
        ),
        micro_batch_size=8,
        groups=8,
        max_micro_batches=8,
        memory=FreeMemory(host_bytes=host_bytes),
    )
    seed_everything(0)
    gradients.run(task, found.append)
    return found


@pytest.mark.slow
def test_iterates_tell_the_span_they_stand_for():
    found = follow(points=(0, 2, 3, 6), edges=(0, 3, 8))
    assert [each.stands_for for each in found] == [(0, 3), (0, 3), (3, 8), (3, 8)]
    assert [each.at_step for each in found] == [0, 2, 3, 6]


@pytest.mark.slow
def test_an_iterate_after_one_without_time_goes_on(monkeypatch):
    monkeypatch.setattr(gradients._Clock, "find_left_s", lambda *_: 0.0)
    found = follow(points=(0, 1, 2))
    assert [each.at_step for each in found] == [0, 1, 2]


@pytest.mark.slow
def test_no_sample_comes_twice_before_a_pass_is_through(monkeypatch):
    seen, take = [], Workload.take
    monkeypatch.setattr(Workload, "take", lambda *a: seen.append(list(a[1])) or take(*a))
    follow(points=(0, 1), micro_batch_size=32)
    measured = [index for batch in seen if len(batch) == 8 for index in batch][8:]
    # A pilot of one round of 8 groups of 8, then two iterates of as many samples.
    assert len(measured) == 3 * 64
    assert len(set(measured)) == 3 * 64


@pytest.mark.slow
@pytest.mark.parametrize(("room", "groups"), [(1 << 40, 8), (40 * 9610 * 4, 8), (31 * 9610 * 4, 0)])
def test_the_groups_take_a_quarter_of_the_memory_there_is(monkeypatch, room, groups):
    """Fewer than 8 groups carry no interval; 9610 parameters take 4 bytes each."""
    given = follow(host_bytes=room)
    monkeypatch.setattr(measure_rows, "available_memory_bytes", lambda: room)
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
