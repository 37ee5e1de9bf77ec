"""Steps of the user's loop, where what they take is known: nothing may run beside it."""

import statistics
from pathlib import Path

import pytest

from advisor.loader.data import LoopTask
from advisor.training.data import WorkloadSpec

pytestmark = [pytest.mark.slow, pytest.mark.serial]

ROOT = Path(__file__).parents[2]
LOADERS = ROOT / "tests" / "workloads" / "loader"


@pytest.fixture
def time_loop(open_workers):
    """A function: a file and sizes go in, the session and its median seconds come out."""

    def run(path, sizes, *, budget_s=2.5, is_in_memory=False, **settings):
        task = LoopTask(
            workload=WorkloadSpec(target=str(path), device="cpu", settings=settings),
            micro_batch_sizes=sizes,
            is_in_memory=is_in_memory,
            budget_s=budget_s,
        )
        (timing,) = open_workers(path).run(task, timeout_s=100)
        step_s = map(statistics.median, timing.step_s)
        return timing, dict(zip(timing.micro_batch_sizes, step_s, strict=True))

    return run


def test_without_workers_loading_is_added_to_the_step(time_loop):
    timing, step_s = time_loop(LOADERS / "slow.py", (4, 8, 2), sample_s="0.005", step_s="0.02")
    assert (timing.workers, timing.message) == (0, None)
    for size in (2, 4, 8):
        assert step_s[size] == pytest.approx(0.02 + 0.005 * size, rel=0.15)
    assert timing.fetch_s < 0.005  # a sample that comes out the same twice is kept


def test_with_a_worker_the_slower_of_both_counts(time_loop):
    timing, step_s = time_loop(LOADERS / "lightning_workers.py", (8, 2))
    assert timing.workers == 1
    # A batch waits for 10 ms a sample and a step for 20 ms.
    assert step_s[8] == pytest.approx(0.08, rel=0.15)
    assert step_s[2] == pytest.approx(0.02, rel=0.3)


def test_batches_in_memory_cost_no_loading(time_loop):
    sizes = (16, 256)
    digits = ROOT / "examples" / "digits.py"
    timing, cut_s = time_loop(digits, sizes, is_in_memory=True)
    _, loaded_s = time_loop(digits, sizes)
    assert timing.is_in_memory
    assert cut_s[256] < 0.7 * loaded_s[256]
    slow, step_s = time_loop(LOADERS / "slow.py", (8, 2), is_in_memory=True, step_s="0.02")
    assert slow.message is None
    assert step_s[8] == pytest.approx(step_s[2], rel=0.15)  # one batch again and again


def test_a_loop_that_gives_no_batch_is_told(time_loop):
    timing, step_s = time_loop(LOADERS / "slow.py", (8,), budget_s=0.1)
    assert step_s == {}
    assert "too long" in timing.message
