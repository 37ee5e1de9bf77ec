"""Loaders in real workers: who waits for whom, and how many workers would end it."""

import json
import math
import statistics
import time
from pathlib import Path

import msgspec
import psutil
import pytest

from advisor.engine.opening import EnvironmentTask
from advisor.loader.data import LoaderTask, LoaderTiming
from advisor.loader.plan import conclude_loader
from advisor.training.data import WorkloadSpec
from tests.integration.probe_command import run_probe

pytestmark = pytest.mark.slow

WORKLOADS = Path(__file__).parent.parent / "workloads"


@pytest.fixture
def time_loader(runner):
    """A function: a loader goes in, its timings and what follows come out, and nothing is left."""
    runner.run(EnvironmentTask(device="cpu"), timeout_s=100)  # the server of the workers is there

    def run(name, size=8, *, budget_s=12.0, **settings):
        target = str(WORKLOADS / f"{name}.py")
        task = LoaderTask(
            workload=WorkloadSpec(target=target, device="cpu", settings=settings),
            micro_batch_size=size,
            budget_s=budget_s,
        )
        before = list_children()
        timings = runner.run(task, timeout_s=100)
        deadline = time.monotonic() + 10.0  # what was killed may take a moment to go
        while not list_children() <= before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list_children() <= before
        return timings, conclude_loader(timings)

    return run


def list_children():
    return {process.pid for process in psutil.Process().children(recursive=True)}


def count_right(timings):
    """Return the right number by the rule, from the rates of these very windows."""
    training = statistics.median(rate for each in timings for rate in each.training_samples_per_s)
    most = max(timings, key=lambda timing: timing.workers)
    assert most.workers > 0
    per_worker = statistics.median(most.alone_samples_per_s) / most.workers
    return math.ceil(training / per_worker)


def check_workers_are_right(timings, conclusion, *, known):
    assert conclusion.status == "limits"
    assert abs(conclusion.workers_needed - count_right(timings)) <= 1
    assert abs(conclusion.workers_needed - known) <= 1
    own, advised = conclusion.points[0], conclusion.find_point(conclusion.advised_workers)
    assert advised is not None
    assert advised.together_samples_per_s.point > 1.5 * own.together_samples_per_s.point


@pytest.mark.serial
def test_a_loader_slowed_on_purpose_is_the_limit_with_the_right_number_of_workers(time_loader):
    timings, conclusion = time_loader("loader/slow")
    # A batch waits for 8 × 10 ms and a step for 30 ms: loading takes 2.67 times as long.
    check_workers_are_right(timings, conclusion, known=3)
    assert conclusion.own_workers == 0
    assert timings[0].is_own
    assert len(timings[0].alone_samples_per_s) > 1
    assert all(timing.message is None for timing in timings)


@pytest.mark.serial
def test_a_fast_loader_is_not_named(time_loader):
    timings, conclusion = time_loader("loader/fast")
    assert conclusion.status == "keeps_up"
    assert conclusion.workers_needed is None
    assert len(timings) == 1


@pytest.mark.serial
def test_a_dataset_smaller_than_two_batches_is_read_again_and_again(time_loader):
    timings, conclusion = time_loader("loader/fast", 16)
    assert conclusion.status == "keeps_up"
    assert timings[0].steps > 1


@pytest.mark.serial
def test_a_loader_that_computes_is_measured_rather_than_extrapolated(time_loader):
    timings, conclusion = time_loader("loader/busy", 2)
    assert conclusion.status == "limits"
    assert len(timings) > 1
    # Its step is so short that more workers are asked for than may be started.
    assert conclusion.workers_needed is None or conclusion.workers_needed > 16
    assert conclusion.is_verified is None


@pytest.mark.serial
def test_a_stream_that_divides_its_samples_is_the_limit_with_the_right_workers(
    time_loader,
):
    timings, conclusion = time_loader("loader/stream")
    check_workers_are_right(timings, conclusion, known=3)
    assert conclusion.is_iterable


@pytest.mark.serial
def test_a_lightning_module_starts_from_its_own_workers_and_sampler(time_loader):
    timings, conclusion = time_loader("loader/lightning_workers")
    assert conclusion.own_workers == 1
    # A batch waits for 8 × 10 ms and a step for 20 ms.
    check_workers_are_right(timings, conclusion, known=4)


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


def test_the_command_names_the_loader_and_leaves_no_process(tmp_path):
    options = ("--set=sample_s=0.005", "--set=step_s=0.015", "--max-batch=8", "--noise-steps=4")
    document = run_command("loader/slow", *options, budget="16s", directory=tmp_path)
    loader, advice = document["derived"]["loader"], document["derived"]["recommendation"]
    assert loader["status"] == "limits"
    timings = msgspec.convert(document["loader_timings"], list[LoaderTiming])
    assert abs(loader["workers_needed"] - count_right(timings)) <= 1
    assert any("The loader is the limit" in warning for warning in advice["warnings"])
    assert f"num_workers={loader['advised_workers']}" in advice["snippet"]
    assert advice["limiting_factor"] in {"memory", "throughput", "noise", "dataset", "user"}


def test_without_real_data_the_command_says_nothing_of_a_loader(tmp_path):
    document = run_command("good/make_step", "--max-batch=8", budget="6s", directory=tmp_path)
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
