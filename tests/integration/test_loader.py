"""Loaders in real workers: who waits for whom, and how many workers would end it."""

import json
from pathlib import Path

import msgspec
import pytest

from advisor.loader.data import LoaderTiming
from tests.integration.probe_command import run_probe

pytestmark = pytest.mark.slow

WORKLOADS = Path(__file__).parent.parent / "workloads"


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


def test_the_command_names_the_loader_and_leaves_no_process(count_right_workers, tmp_path):
    options = ("--set=sample_s=0.005", "--set=step_s=0.015", "--max-batch=8", "--noise-steps=4")
    document = run_command("loader/slow", *options, budget="60s", directory=tmp_path)
    loader, advice = document["derived"]["loader"], document["derived"]["recommendation"]
    assert loader["status"] == "limits"
    timings = msgspec.convert(document["loader_timings"], list[LoaderTiming])
    assert abs(loader["workers_needed"] - count_right_workers(timings)) <= 1
    assert any("The loader is the limit" in warning for warning in advice["warnings"])
    assert f"num_workers={loader['advised_workers']}" in advice["snippet"]
    assert advice["limiting_factor"] in {"memory", "throughput", "noise", "dataset", "user"}


def test_without_real_data_the_command_says_nothing_of_a_loader(tmp_path):
    document = run_command("good/make_step", "--max-batch=8", budget="40s", directory=tmp_path)
    assert document["derived"]["loader"] is None
    assert document["loader_timings"] == []


def run_command(name, *options, budget, directory):
    """Return the document of a probe that ended well and left no process."""
    out = directory / "run.json"
    target = f"tests/workloads/{name}.py"
    result = run_probe(target, *options, f"--budget={budget}", f"--json={out}", directory=directory)
    assert result.exit_code == 0, result.stderr
    assert result.survivors == ()
    assert "This DataLoader will create" not in result.stderr
    return json.loads(out.read_text())
