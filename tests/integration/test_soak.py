"""Soaks in real workers: what fits for three steps, and whether it still fits after sixty."""

from pathlib import Path

import pytest

from advisor.memory.data import MemoryTask
from advisor.soak.data import SoakTask
from advisor.soak.plan import conclude_soak
from advisor.training.data import WorkloadSpec

pytestmark = pytest.mark.slow

WORKLOADS = Path(__file__).parent.parent / "workloads"
MIB = 2**20


@pytest.fixture
def soak(runner):
    """A function: what to soak goes in, what was seen comes out."""

    def run(name, size=16, *, capacity=512 * MIB, steps=40, times=1, **fields):
        (result,) = runner.run(
            make_soak(name, size, capacity, steps, times, **fields), timeout_s=100
        )
        return result

    return run


def make_soak(name, size, capacity, steps, times, **fields):
    return SoakTask(
        workload=WorkloadSpec(target=str(WORKLOADS / f"{name}.py"), device="cpu"),
        micro_batch_size=size,
        gradient_accumulation_steps=times,
        capacity_bytes=capacity,
        steps=steps,
        evaluations=2,
        budget_s=60.0,
        **fields,
    )


def test_an_ordinary_model_holds(soak):
    result = soak("memory/perceptron", 8, steps=20, times=2)
    assert (result.outcome, result.steps, result.evaluations) == ("fit", 20, 2)
    assert len(result.held_bytes) == len(result.step_times_s) == 20
    assert result.reserve_peak_bytes is None
    assert 0 < result.evaluation_peak_bytes < result.training_peak_bytes < 512 * MIB
    conclusion = conclude_soak([result])
    assert conclusion.holds is True
    assert not conclusion.evaluation_needs_more


def test_a_slow_leak_is_found_with_its_slope(soak):
    growth = conclude_soak([soak("soak/slow_leak")]).growth_bytes_per_step
    # Two evaluations among the forty steps leave their share as well, and each block has a header.
    assert growth.point == pytest.approx(42 / 40 * 4 * MIB, rel=0.05)


def test_a_leak_that_fills_memory_is_not_held_against_the_size(soak):
    result = soak("soak/slow_leak", capacity=256 * MIB, steps=100)
    assert result.outcome == "oom"
    conclusion = conclude_soak([result])
    assert conclusion.holds is False
    assert conclusion.failed == ()
    assert conclusion.growth_bytes_per_step is not None


def test_evaluation_that_takes_more_than_training_is_seen(soak):
    result = soak("soak/large_evaluation", 256, steps=20)
    assert result.outcome == "fit"
    assert conclude_soak([result]).evaluation_needs_more


def test_evaluation_counts_against_the_limit(soak):
    assert soak("soak/large_evaluation", 2048, capacity=128 * MIB, steps=20).outcome == "oom"


def test_memory_that_comes_at_step_five_refutes_what_three_steps_showed(soak, runner):
    size, capacity = 256, 48 * MIB
    workload = WorkloadSpec(target=str(WORKLOADS / "soak/growth_at_step_five.py"), device="cpu")
    task = MemoryTask(workload=workload, micro_batch_size=size, capacity_bytes=capacity)
    (probe,) = runner.run(task, timeout_s=100)
    assert probe.outcome == "fit"
    result = soak("soak/growth_at_step_five", size, capacity=capacity)
    assert (result.outcome, result.steps) == ("oom", 4)
    assert "allocate" in result.message
    assert result.training_peak_bytes > 0
    assert soak("soak/growth_at_step_five", size // 4, capacity=capacity).outcome == "fit"


def test_a_copy_of_the_state_is_made_where_asked(soak):
    name = "soak/many_layers"
    parameter_bytes = 4 * (16 * 513 * 512 + 513 * 8)
    result = soak(name, 1, reserve=True, steps=4)
    assert result.outcome == "fit"
    # Parameters and Adam's two moments stay while they are copied.
    assert result.reserve_peak_bytes == pytest.approx(6 * parameter_bytes, rel=0.1)
    between = 5 * parameter_bytes
    assert soak(name, 1, capacity=between, steps=4).outcome == "fit"
    assert soak(name, 1, capacity=between, steps=4, reserve=True).outcome == "oom"


def test_a_loss_that_training_mode_alone_has_is_left_unevaluated(soak):
    result = soak("soak/training_only_loss", steps=6)
    assert (result.outcome, result.steps, result.evaluations) == ("fit", 6, 0)
    assert result.message.startswith("no evaluation: ")


@pytest.mark.parametrize("name", ["good/make_step", "good/lbfgs", "good/variable_length"])
def test_other_kinds_of_steps_are_soaked_too(soak, name):
    result = soak(name, 4, steps=18)
    assert (result.outcome, result.steps) == ("fit", 18)
    assert (result.evaluation_peak_bytes is None) == (name == "good/make_step")
