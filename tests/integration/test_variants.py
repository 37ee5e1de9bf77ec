"""Precisions side by side, and torch.compile, in real workers."""

from pathlib import Path

import pytest

from advisor.cli.variants import parse_variants
from advisor.throughput.data import ThroughputTask
from advisor.training.data import WorkloadSpec
from advisor.variants.data import VARIANTS
from advisor.variants.plan import VARIANTS_TOPIC
from advisor.variants.stage import list_variants
from tests.integration.asked import ask

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_servers")]

WORKLOADS = Path(__file__).parent.parent / "workloads"


def compare(target, precisions):
    """The conclusions of a run at these precisions, of its speed and its losses."""
    asked = ((VARIANTS, list_variants(parse_variants(precisions, "off"))),)
    names = ("memory", "throughput", "variants")
    return ask(*names, target=target, asked=asked, max_micro_batch_size=8, budget_s=30.0)


def test_a_second_precision_is_measured_beside_the_first():
    found = compare("tests/workloads/good/mean_squared_error.py", "fp32,bf16,tf32")
    assert found.record.command.precision == "fp32"
    assert [one.precision for one in found.record.all(VARIANTS)] == ["fp32", "bf16", "tf32"]
    first, second, third = found.of(VARIANTS_TOPIC)
    assert first.max_micro_batch_size == second.max_micro_batch_size == 8
    assert second.missing_because is None
    assert second.best_samples_per_s.point > 0.0
    assert second.loss.steps == first.loss.steps
    assert abs(second.loss.difference.point) < 0.1 * first.loss.loss.point
    assert "tf32" in third.missing_because


def test_a_precision_that_the_model_refuses_does_not_end_the_run():
    _, refused = compare("tests/workloads/compile/no_bf16.py", "fp32,bf16").of(VARIANTS_TOPIC)
    assert "takes float32 only" in refused.missing_because
    assert refused.best_samples_per_s is None


def test_in_the_first_place_it_ends_the_run(run_command):
    result = run_command(
        *("probe", "tests/workloads/compile/no_bf16.py", "--device", "cpu"),
        *("--precision", "bf16,fp32", "--budget", "10s"),
    )
    assert result.exit_code == 5
    assert "takes float32 only" in result.stderr


def test_each_size_is_compiled_exactly_once(runner):
    target = str(WORKLOADS / "compile" / "product.py")
    task = ThroughputTask(
        workload=WorkloadSpec(target=target, device="cpu", compile=True),
        micro_batch_sizes=(1, 2),
        session=0,
        block_s=0.01,
        rounds=2,
        budget_s=60.0,
    )
    probes = runner.run(task, timeout_s=250.0)
    assert [probe.micro_batch_size for probe in probes] == [1, 2]
    assert [probe.recompiles for probe in probes] == [1, 1]
