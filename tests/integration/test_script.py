"""The user's own script in real workers: what is seen of it, and how it ends."""

import math
from pathlib import Path

import pytest

from advisor.engine.task import ScriptTask
from advisor.errors import WorkloadError
from advisor.memory.data import MemoryTask
from advisor.noise.data import NoiseTask, Trajectory
from advisor.rate.data import TrialTask
from advisor.training.script.arguments import Filling
from tests.integration.conftest import make_script

_ACCUMULATES = ("batch={batch_size}", "rate={learning_rate}")


def test_a_loop_of_ones_own_is_seen_as_it_is(see):
    facts = see("accumulates", *_ACCUMULATES)
    assert facts.base_batch_size == 36
    assert facts.script.script.parts == 3
    assert facts.script.counted_by == "dimension 0 of the model's input"
    assert facts.script.takes_rate
    assert facts.optimizer.learning_rate == 0.01  # of the constructor, not of the warm-up by hand
    assert [group.weight_decay for group in facts.optimizer.groups] == [0.1, 0.0]
    assert facts.clip_grad_norm == 1.0
    assert facts.loss_reduction == "mean"
    assert (facts.model_name, facts.parameter_count) == ("Sequential", 577)


def test_a_script_that_is_told_its_accumulation_is_not_bound_to_one(see):
    facts = see("accumulates", *_ACCUMULATES, "accumulation={accumulation}")
    assert facts.base_batch_size == 36
    assert facts.script.script.parts == 1
    assert facts.script.script.divides_loss


@pytest.mark.slow
def test_the_example_is_seen_as_it_is(see):
    example = Path(__file__).parents[2] / "examples" / "train_digits"
    facts = see(str(example), "--batch-size", "{batch_size}", "--lr", "{learning_rate}")
    assert (facts.base_batch_size, facts.dataset_size) == (32, 1500)
    assert facts.optimizer.learning_rate == 0.5
    assert facts.has_scheduler


def test_several_optimizers_leave_noise_and_rates_out(see):
    facts = see("gan", "--batch-size", "{batch_size}")
    assert facts.base_batch_size == 8
    assert facts.script.why_untrained == "the script steps several optimizers"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ignores_batch", "ignores {batch_size}"),
        ("forks", "which it forks"),
        ("spawns", "which it starts by torch.multiprocessing"),
        ("fails", "fails.py:10"),
        ("no_steps", "no backward pass and no step of an optimizer"),
    ],
)
def test_what_cannot_be_measured_says_why(see, name, said):
    with pytest.raises(WorkloadError) as error:
        see(name, "--batch-size", "{batch_size}")
    assert said in error.value.message


def test_a_batch_of_a_step_where_one_of_a_pass_is_told_is_no_ignored_batch(see):
    with pytest.raises(WorkloadError, match="takes other batches than") as error:
        see("accumulates", "batch={batch_size}", batch_is_global=True)
    assert "--batch-size-is micro" in error.value.next_step


def test_an_argument_without_a_default_asks_for_a_value(see):
    with pytest.raises(WorkloadError) as error:
        see("gan", "--batch-size", "{batch_size}", "--no-such-option")
    assert "sys.exit(2)" in error.value.message
    assert "{batch_size=64}" in error.value.next_step


def test_an_error_that_the_script_catches_is_out_of_memory_and_nothing_is_saved(runner, tmp_path):
    saved = tmp_path / "saved.txt"

    def probe(size):
        workload = make_script("swallows", str(saved))
        task = MemoryTask(workload=workload, micro_batch_size=size, capacity_bytes=256 << 20)
        (found,) = runner.run(task, timeout_s=60)
        return found

    assert probe(64).outcome == "fit"
    assert not saved.exists()
    failed = probe(1 << 18)
    assert failed.outcome == "oom"
    assert "memory" in failed.message
    assert not saved.exists()
    assert probe(1 << 20).outcome == "error"  # before its model is called: only smaller ones tell


def test_starts_are_the_same_from_one_seed_and_others_from_another(runner):
    def train(seed, rate=0.01):
        task = TrialTask(
            workload=make_script("accumulates", *_ACCUMULATES, parts=3),
            micro_batch_size=36,
            gradient_accumulation_steps=1,
            learning_rate=rate,
            samples=36 * 60,
            seeds=(seed,),
            decay_fraction=0.3,
            warmup_steps=6,
        )
        (branch,) = runner.run(task, timeout_s=60)
        return branch

    first, again, other, faster = train(0), train(0), train(1), train(0, 0.03)
    assert first == again
    assert first.evaluations[0].loss != other.evaluations[0].loss
    assert first.evaluations[0] == faster.evaluations[0]
    assert first.warmup_steps == 6  # of the thousand that the script would take
    assert faster.evaluations[6].loss < first.evaluations[6].loss < first.first_loss
    assert first.decays_from == 42 * 36


def test_frozen_steps_leave_the_training_as_it_is(runner):
    """Two real steps before the first point, though eight frozen ones come between the points."""

    def measure(points):
        task = NoiseTask(
            workload=make_script("accumulates", *_ACCUMULATES, parts=3),
            trajectory=Trajectory(micro_batch_size=36, points=points, budget_s=60.0),
            micro_batch_size=36,
            groups=8,
            max_micro_batches=512,
        )
        return runner.run(task, timeout_s=60)

    found = measure((2, 30))
    assert [each.at_step for each in found] == [2, 30]
    assert all(math.isfinite(each.plain.total_sqnorm) for each in found)
    assert found[1].loss < found[0].loss
    assert found[0].preconditioned is not None  # the optimizer's state is that of two real steps


def test_a_filling_is_told_by_the_environment_too(runner):
    spec = make_script("swallows")
    (sight,) = runner.run(ScriptTask(workload=spec, filling=Filling(batch_size=24)), timeout_s=60)
    assert sight.input_shape == (24, 64)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "said"),
    [(2, "after 2 steps, too few to measure"), (9, "after 9 steps of batch 16, too few to time")],
)
def test_a_script_that_ends_too_soon_says_after_how_many_steps(run_command, tmp_path, steps, said):
    script = tmp_path / "short.py"
    script.write_text(
        "import sys, torch\n"
        "from torch.utils.data import DataLoader, TensorDataset\n"
        "model = torch.nn.Linear(8, 1)\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.01)\n"
        "data = TensorDataset(torch.randn(400, 8), torch.randn(400, 1))\n"
        "loader = DataLoader(data, int(sys.argv[1]) if sys.argv[1:] else 16)\n"
        f"for (inputs, targets), _ in zip(loader, range({steps})):\n"
        "    optimizer.zero_grad()\n"
        "    torch.nn.functional.mse_loss(model(inputs), targets).backward()\n"
        "    optimizer.step()\n"
    )
    result = run_command("probe", script, "--budget", "1m", "--", "{batch_size=16}")
    assert result.exit_code == 5
    assert f"short.py ended {said}" in " ".join(result.stderr.split())
    assert "Raise --budget" not in result.output
