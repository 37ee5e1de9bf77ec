"""One training, measured as a model file and as a script: the same is seen of both."""

import pytest
from msgspec.structs import replace

from advisor.engine.task import InspectTask
from advisor.memory.data import MemoryTask
from advisor.rate.data import TrialTask
from advisor.training.data import WorkloadSpec
from tests.integration.conftest import WORKLOADS, make_script

_BATCH = ("--batch-size", "{batch_size}")
_LIMIT_BYTES = 40 << 20


@pytest.fixture(scope="module")
def both():
    """The model file and the script."""
    path = str(WORKLOADS / "same_training.py")
    script = make_script("same_training", *_BATCH, "--epochs", "100")
    return WorkloadSpec(target=path, device="cpu"), script


def test_the_same_is_understood_of_both(see, runner, both):
    (of_file,) = runner.run(InspectTask(workload=both[0]), timeout_s=60)
    of_script = see("same_training", *_BATCH)
    for name in (
        *("parameter_count", "trainable_parameter_count", "parameter_bytes", "dataset_size"),
        *("clip_grad_norm", "base_batch_size", "min_micro_batch_size", "loss_reduction"),
    ):
        assert getattr(of_script, name) == getattr(of_file, name), name
    assert of_script.first_loss == pytest.approx(of_file.first_loss, rel=0.1)
    assert replace(of_script.optimizer, is_default=False) == of_file.optimizer


@pytest.mark.slow
def test_a_limit_ends_both_at_nearly_the_same_batch(runner, both):
    def find_largest(workload, fits, fails):
        while fails - fits > fits // 20:
            size = (fits + fails) // 2
            task = MemoryTask(workload=workload, micro_batch_size=size, capacity_bytes=_LIMIT_BYTES)
            (probe,) = runner.run(task, timeout_s=60)
            fits, fails = (size, fails) if probe.outcome == "fit" else (fits, size)
        return fits

    of_file, of_script = (find_largest(workload, 64, 1500) for workload in both)
    assert 64 < of_file < 1400
    assert of_script == pytest.approx(of_file, rel=0.15)  # it loads the next batch as well


@pytest.mark.slow
def test_the_loss_of_a_branch_falls_alike(runner, both):
    def train(workload):
        task = TrialTask(
            workload=workload,
            micro_batch_size=32,
            gradient_accumulation_steps=1,
            learning_rate=0.1,
            samples=32 * 300,
            seeds=(0,),
        )
        (branch,) = runner.run(task, timeout_s=100)
        return branch

    of_file, of_script = (train(workload) for workload in both)
    assert of_script.samples == of_file.samples
    assert of_script.first_loss == pytest.approx(of_file.first_loss, rel=0.1)
    last = of_script.evaluations[-1]  # a mean over steps, at the middle of these
    near = min(of_file.evaluations, key=lambda each: abs(each.samples - last.samples))
    assert last.loss == pytest.approx(near.loss, rel=0.25)
    assert last.loss < 0.5 * of_script.first_loss
