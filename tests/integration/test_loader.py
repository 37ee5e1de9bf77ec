"""Loaders in real workers: who waits for whom, and how many workers would end it."""

import pytest

from advisor.advice.plan import ADVICE
from advisor.loader.data import LOADER_TIMINGS
from advisor.loader.plan import LOADER
from tests.integration.asked import ask

pytestmark = pytest.mark.slow


def test_a_pass_without_a_full_batch_is_told(time_loader):
    # Two batches, shared by three workers: none of them has a full one.
    timings, conclusion = time_loader("loader/stream", samples="16")
    assert conclusion.status == "limits"
    assert "no full batch of 8" in timings[-1].message
    assert conclusion.workers_needed is None
    assert "no full batch of 8" in conclusion.message


def test_batches_that_take_too_long_for_the_time_are_told(time_loader):
    timings, conclusion = time_loader("loader/slow", budget_s=0.1)
    assert len(timings) == 1
    assert "too long" in timings[0].message
    assert conclusion.status == "inconclusive"


def test_a_worker_that_dies_is_told(time_loader):
    timings, conclusion = time_loader("loader/dying_worker")
    assert "exited unexpectedly" in timings[-1].message
    assert conclusion.status == "limits"
    assert conclusion.advised_workers is None


@pytest.mark.usefixtures("shared_servers")
def test_a_run_names_the_loader(count_right_workers, capfd):
    found = ask(
        *("memory", "throughput", "loader"),
        target="tests/workloads/loader/slow.py",
        settings={"sample_s": "0.005", "step_s": "0.015"},
        max_micro_batch_size=8,
        budget_s=60.0,  # it ends before
    )
    loader, advice = found.of(LOADER), found.of(ADVICE)
    assert loader.status == "limits"
    timings = found.record.all(LOADER_TIMINGS)
    assert abs(loader.workers_needed - count_right_workers(timings)) <= 1
    assert any("The loader is the limit" in warning for warning in advice.warnings)
    assert f"num_workers={loader.advised_workers}" in advice.snippet
    assert advice.limiting_factor in {"memory", "throughput", "noise", "dataset", "user"}
    assert "This DataLoader will create" not in capfd.readouterr().err
