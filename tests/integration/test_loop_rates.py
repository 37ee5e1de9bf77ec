"""Steps of the user's loop, where it is noted what they wait for: a busy machine waits longer."""

import statistics
from pathlib import Path

import pytest

from advisor.loader.data import LoopTask
from advisor.training.data import WorkloadSpec

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SLOW = ROOT / "tests" / "workloads" / "loader" / "slow.py"


@pytest.fixture
def time_loop(runner):
    """A function: a file and sizes go in, the session and its median seconds come out."""

    def run(path, sizes, *, budget_s=60.0, is_in_memory=False, **settings):
        task = LoopTask(
            workload=WorkloadSpec(target=str(path), device="cpu", settings=settings),
            micro_batch_sizes=sizes,
            is_in_memory=is_in_memory,
            budget_s=budget_s,
        )
        (timing,) = runner.run(task, timeout_s=100)
        step_s = map(statistics.median, timing.step_s)
        return timing, dict(zip(timing.micro_batch_sizes, step_s, strict=True))

    return run


@pytest.fixture
def time_slow(time_loop, tmp_path):
    """A function as `time_loop`: the mean seconds of a sample and of a step come out as well."""

    def run(sizes, **settings):
        notes = tmp_path / "waits"
        found = time_loop(SLOW, sizes, notes=str(notes), **settings)
        waits = {"sample": [], "step": []}
        for line in notes.read_text().splitlines():
            what, seconds = line.split()
            waits[what].append(float(seconds))
        return *found, *map(statistics.fmean, waits.values())

    return run


def test_without_workers_loading_is_added_to_the_step(time_slow):
    timing, found_s, sample_s, step_s = time_slow((4, 8, 2), sample_s="0.005", step_s="0.02")
    assert (timing.workers, timing.message) == (0, None)
    for size in (2, 4, 8):
        assert found_s[size] == pytest.approx(step_s + size * sample_s, rel=0.15)
    assert timing.fetch_s < sample_s  # a sample that comes out the same twice is kept


def test_with_a_worker_the_slower_of_both_counts(time_slow):
    timing, found_s, sample_s, step_s = time_slow(
        (4, 1), sample_s="0.02", step_s="0.05", workers="1"
    )
    assert (timing.workers, timing.message) == (1, None)
    # Both together would be 1.6 and 1.4 times as much.
    assert found_s[4] == pytest.approx(4 * sample_s, rel=0.3)
    assert found_s[1] == pytest.approx(step_s, rel=0.3)


def test_batches_in_memory_cost_no_loading(time_loop):
    sizes = (16, 256)
    digits = ROOT / "examples" / "digits.py"
    timing, cut_s = time_loop(digits, sizes, is_in_memory=True)
    _, loaded_s = time_loop(digits, sizes)
    assert timing.is_in_memory
    assert cut_s[256] < 0.7 * loaded_s[256]
    slow, step_s = time_loop(SLOW, (8, 2), is_in_memory=True, step_s="0.02")
    assert slow.message is None
    assert step_s[8] == pytest.approx(step_s[2], rel=0.15)  # one batch again and again


def test_a_loop_that_gives_no_batch_is_told(time_loop):
    timing, step_s = time_loop(SLOW, (8,), budget_s=0.1)
    assert step_s == {}
    assert "too long" in timing.message
