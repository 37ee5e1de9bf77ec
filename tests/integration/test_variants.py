"""Precisions side by side, and torch.compile, in real workers."""

import json
from pathlib import Path

import pytest

from advisor.errors import WorkloadError
from advisor.throughput.data import ThroughputTask
from advisor.training.data import WorkloadSpec
from tests.integration.probe_command import run_probe

pytestmark = pytest.mark.slow

WORKLOADS = Path(__file__).parent.parent / "workloads"
#: One more than dynamo keeps graphs for.
SIZES = tuple(range(1, 10))
SEVERAL, REFUSED = "several precisions", "a precision that the model refuses"
PROBES = {
    SEVERAL: (
        "tests/workloads/good/mean_squared_error.py",
        *["--precision", "fp32,bf16,tf32", "--budget", "20s", "--max-batch", "8"],
        *["--noise-steps", "0", "--json", "run.json"],
    ),
    REFUSED: (
        "tests/workloads/compile/no_bf16.py",
        *["--precision", "fp32,bf16", "--budget", "30s", "--max-batch", "8"],
        *["--noise-steps", "0", "--json", "run.json"],
    ),
}


def probe(name, directory):
    """Return how a probe ends; it writes run.json."""
    target, *options = PROBES[name]
    options[-1] = str(directory / options[-1])
    return run_probe(target, *options, directory=directory)


def test_a_second_precision_is_in_the_document_and_the_report(tmp_path):
    outcome = probe(SEVERAL, tmp_path)
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.survivors == ()
    document = json.loads((tmp_path / "run.json").read_text())
    assert document["command"]["precision"] == "fp32"
    assert [one["precision"] for one in document["variants"]] == ["fp32", "bf16", "tf32"]
    first, second, third = document["derived"]["variants"]
    assert first["max_micro_batch_size"] == second["max_micro_batch_size"] == 8
    assert second["missing_because"] is None
    assert second["best_samples_per_s"]["point"] > 0.0
    assert second["loss"]["steps"] == first["loss"]["steps"]
    assert abs(second["loss"]["difference"]["point"]) < 0.1 * first["loss"]["loss"]["point"]
    assert "tf32" in third["missing_because"]


def test_a_precision_that_the_model_refuses_does_not_end_the_run(tmp_path):
    outcome = probe(REFUSED, tmp_path)
    assert outcome.exit_code == 0, outcome.stderr
    _, refused = json.loads((tmp_path / "run.json").read_text())["derived"]["variants"]
    assert "takes float32 only" in refused["missing_because"]
    assert refused["best_samples_per_s"] is None


def test_in_the_first_place_it_ends_the_run(tmp_path):
    outcome = run_probe(
        "tests/workloads/compile/no_bf16.py",
        *["--precision", "bf16,fp32", "--budget", "10s"],
        directory=tmp_path,
    )
    assert outcome.exit_code == 5
    assert "takes float32 only" in outcome.stderr


def test_each_of_more_sizes_than_dynamo_keeps_is_compiled_exactly_once(runner):
    target = str(WORKLOADS / "good" / "mean_squared_error.py")
    task = ThroughputTask(
        workload=WorkloadSpec(target=target, device="cpu", compile=True),
        micro_batch_sizes=SIZES,
        session=0,
        block_s=0.01,
        rounds=2,
        budget_s=60.0,
    )
    probes = runner.run(task, timeout_s=250.0)
    assert [probe.micro_batch_size for probe in probes] == list(SIZES)
    assert [probe.recompiles for probe in probes] == [1] * len(SIZES)


def test_a_model_that_compiles_at_every_step_is_refused_and_not_timed(runner):
    target = str(WORKLOADS / "compile" / "counter.py")
    task = ThroughputTask(
        workload=WorkloadSpec(target=target, device="cpu", compile=True),
        micro_batch_sizes=(2,),
        session=0,
        block_s=0.01,
        rounds=1,
        budget_s=60.0,
    )
    with pytest.raises(WorkloadError) as caught:
        runner.run(task, timeout_s=120.0)
    assert "anew again and again" in caught.value.message
