"""Scripts of every kind as people write them, with the trainers that they use."""

from pathlib import Path

import pytest

from advisor.engine.ends import WorkerTimeoutError
from advisor.engine.runner import Runner
from advisor.engine.task import ScriptTask
from advisor.errors import WorkloadError
from advisor.memory.data import MemoryTask
from advisor.training.script.arguments import Filling
from tests.integration.conftest import SCRIPTS, make_script

_BATCH = ("--batch-size", "{batch_size}")


@pytest.fixture
def see_apart(see, open_workers):
    """A function as `see`, in workers that have imported what the script imports."""

    def run(name, *cases):
        workers = open_workers(SCRIPTS / f"{name}.py")
        return [see(name, *arguments, workers=workers) for arguments in cases]

    return run


@pytest.mark.slow
def test_lightning_trains_in_its_own_way(see_apart):
    automatic, manual = see_apart(
        "lightning_trainer",
        (*_BATCH, "--lr", "{learning_rate}", "--precision", "bf16-true"),
        (*_BATCH, "--manual"),
    )
    assert (automatic.base_batch_size, automatic.script.script.parts) == (32, 2)
    assert (manual.base_batch_size, manual.script.script.parts) == (16, 1)
    assert automatic.script.takes_rate
    for facts in (automatic, manual):
        assert facts.optimizer.learning_rate == 0.05
        assert facts.has_scheduler
        assert facts.clip_grad_norm == 0.5
        assert facts.dataset_size == 2048  # not that of the evaluation
        assert facts.script.why_untrained == ""


@pytest.mark.slow
def test_hugging_face_trains_in_its_own_way(see_apart, tmp_path):
    size = ("--per_device_train_batch_size", "{batch_size}", "--output_dir", str(tmp_path))
    fixed, told = see_apart(
        "hugging_face_trainer",
        size,
        (*size, "--gradient_accumulation_steps", "{accumulation}"),
    )
    assert (fixed.base_batch_size, fixed.script.script.parts) == (32, 4)
    assert (told.base_batch_size, told.script.script.parts) == (8 * 4, 1)
    assert fixed.optimizer.learning_rate == 5e-5  # of the constructor, not of its warm-up
    assert (fixed.clip_grad_norm, fixed.dataset_size) == (1.0, 4096)
    assert (fixed.loss_reduction, told.loss_reduction) == ("mean", "mean")
    assert fixed.script.why_untrained == ""


@pytest.mark.slow
def test_accelerate_loads_a_batch_ahead(see_apart):
    (facts,) = see_apart("accelerated", (*_BATCH, "--precision", "bf16"))
    assert (facts.base_batch_size, facts.script.script.parts) == (16, 2)
    assert (facts.optimizer.learning_rate, facts.clip_grad_norm) == (0.002, 2.0)
    assert (facts.loss_reduction, facts.script.why_untrained) == ("mean", "")


@pytest.mark.slow
def test_a_compiled_model_is_seen(see):
    facts = see("compiled", *_BATCH)
    assert (facts.base_batch_size, facts.parameter_count) == (8, 577)
    assert facts.script.why_untrained == ""


@pytest.mark.slow
def test_what_a_script_writes_is_told_and_what_it_prints_is_not(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("here.txt").write_text("there before")
    with Runner(None) as workers:
        task = ScriptTask(workload=make_script("writes"), filling=Filling(batch_size=8))
        workers.run(task, timeout_s=60)
        assert workers.written_files == tuple(
            str(tmp_path / name) for name in ("first.pt", "log.txt", "whole.txt")
        )
    assert not Path("last.pt").exists()
    assert not Path("at_exit.txt").exists()
    assert "garbage" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("name", "arguments", "why"),
    [
        ("sharpness_aware", (), "the script moves its parameters between the backward passes"),
        ("sharpness_aware", ("--data",), "the script moves its parameters between the backward"),
        ("second_order", (), "LBFGS evaluates the loss itself"),
    ],
)
def test_several_passes_of_one_batch_are_no_accumulation(see, name, arguments, why):
    facts = see(name, *_BATCH, *arguments)
    assert (facts.base_batch_size, facts.script.script.parts) == (8, 1)
    assert why in facts.script.why_untrained


@pytest.mark.slow
def test_a_module_has_relative_imports_and_two_losses_of_one_batch(see, monkeypatch):
    monkeypatch.chdir(SCRIPTS / "package")
    with Runner(None) as workers:
        options = {"is_module": True, "workers": workers}
        facts = see("package", *_BATCH, target="trainer.train", **options)
        for name in ("trainer", "trainer.none", "nothing.train"):
            with pytest.raises(WorkloadError, match="finds nothing to run"):
                see("package", *_BATCH, target=name, **options)
    assert (facts.base_batch_size, facts.script.script.parts) == (16, 1)
    assert facts.script.why_untrained == ""


@pytest.mark.parametrize("arguments", [(), ("--reentrant",)])
def test_what_is_computed_again_is_no_second_pass(see, arguments):
    facts = see("checkpointed", *_BATCH, *arguments)
    assert (facts.base_batch_size, facts.script.script.parts) == (8, 1)
    assert facts.parameter_count == 833  # of all modules, though no module holds them all
    assert facts.loss_reduction == "mean"


def test_a_scaled_loss_is_the_script_s_own(see):
    facts = see("scaled", *_BATCH)
    assert (facts.base_batch_size, facts.clip_grad_norm) == (8, 1.0)
    assert facts.first_loss < 100.0  # though it was multiplied by thousands
    assert facts.loss_reduction == "mean"


def test_a_loss_that_is_summed_is_seen(see):
    facts = see("summed", *_BATCH)
    assert (facts.base_batch_size, facts.loss_reduction) == (32, "sum")


@pytest.mark.parametrize(("arguments", "norm"), [((), 0.25), (("--by-value",), None)])
def test_a_batch_may_be_the_second_dimension(see, arguments, norm):
    facts = see("time_first", *_BATCH, *arguments)
    assert facts.base_batch_size == 20
    assert facts.script.counted_by == "dimension 1 of the model's input"
    assert facts.script.script.dimension == 1
    assert facts.clip_grad_norm == norm
    assert ("each element of the gradients is clipped" in facts.notes) == (norm is None)


@pytest.mark.parametrize("arguments", [(), ("--with-gradients", "--workers", "0")])
def test_evaluations_between_steps_are_none_of_them(see, arguments):
    facts = see("streamed", *_BATCH, *arguments)
    assert (facts.base_batch_size, facts.min_micro_batch_size) == (16, 2)
    assert facts.script.counted_by == "its DataLoader"
    assert facts.dataset_size is None
    assert facts.optimizer.is_nesterov


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("by_hand", (), "moves its parameters without an optimizer of torch.optim"),
        ("fixed_step", (), "the batch of its steps stays as it is"),
        ("ends", ("--by", "status"), "exit status 3"),
        ("ends", ("--by", "fault"), "segmentation fault"),
        ("ends", ("--by", "usage"), "sys.exit(2)"),
    ],
)
def test_what_ends_or_is_no_training_is_told(see, name, arguments, said):
    with pytest.raises(WorkloadError) as error:
        see(name, *_BATCH, *arguments)
    assert said in error.value.message
    if said == "sys.exit(2)":
        assert "the following arguments are required: --needed" in error.value.traceback


@pytest.mark.slow
def test_a_script_that_hangs_is_told_where_it_stands(runner):
    task = ScriptTask(workload=make_script("ends", "--by", "waiting"), filling=Filling())
    with pytest.raises(WorkerTimeoutError, match=r"it stood at .*ends.py:\d+ in <module>") as error:
        runner.run(task, timeout_s=4.0)
    assert "optimizer steps" in error.value.message
    assert "imported" not in error.value.next_step
    reading = ScriptTask(workload=make_script("ends", "--by", "reading"), filling=Filling())
    with pytest.raises(WorkloadError, match="EOFError"):
        runner.run(reading, timeout_s=60)


def test_a_first_call_of_another_size_and_a_batch_that_is_capped_are_seen(see, runner):
    facts = see("capped", *_BATCH)
    assert (facts.base_batch_size, facts.script.script.dimension) == (16, 0)
    spec = make_script("capped", *_BATCH, dimension=0)
    task = MemoryTask(workload=spec, micro_batch_size=100, capacity_bytes=1 << 30)
    with pytest.raises(WorkloadError, match="told to take batches of 100, it takes 64"):
        runner.run(task, timeout_s=60)


def test_a_stream_that_ends_within_its_first_batch_shows_how_many_it_has(runner):
    spec = make_script("streamed", *_BATCH, "--workers", "0", "--samples", "64")
    task = MemoryTask(workload=spec, micro_batch_size=100, capacity_bytes=1 << 30)
    with pytest.raises(WorkloadError, match="told to take batches of 100, it takes 64"):
        runner.run(task, timeout_s=60)
