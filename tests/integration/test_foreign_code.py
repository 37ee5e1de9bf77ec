"""Files that lean on what a loop happens to allow are understood, or refused with a way on.

Each is after a report on real training code; the file says which kind.
"""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from advisor.engine.runner import Runner
from advisor.engine.task import InspectTask
from advisor.errors import AdvisorError
from advisor.memory.data import MemoryTask
from advisor.memory.plan import MEMORY
from advisor.noise.plan import explain_absence
from advisor.rate.conclude import needs_range
from advisor.rate.data import TrialTask
from advisor.rate.rules import name_family, propose_learning_rate
from advisor.training.data import WorkloadFacts, WorkloadSpec
from tests.integration.asked import ask
from tests.integration.probe_command import ROOT
from tests.integration.stages import see_every_stage

pytestmark = pytest.mark.slow  # as a whole

_FOLDER = Path("tests/workloads/foreign")
_PATIENCE_S = 120.0

#: By file: what must be found.
UNDERSTOOD: dict[str, dict[str, Any]] = {
    "loss_instance": {"model_name": "Whole", "loss_reduction": "mean"},
    "instance_and_part": {"how_model": "network, the only model in the file"},
    "silent_methods": {"model_name": "Silent", "loss_reduction": "mean"},
    "greedy_loss": {"loss_reduction": "mean"},
    "label_column": {"loss_reduction": "mean"},
    "mask_channel": {"loss_reduction": "mean"},
    "one_hot": {"loss_reduction": "mean"},
    "loader_for_dataset": {"base_batch_size": 24, "dataset_size": 256},
    "batch_sampler": {"base_batch_size": 12, "dataset_size": 256},
    "samples_of_a_class": {"variable_length": True, "loss_reduction": "mean"},
    "expanded_buffer": {"loss_reduction": "mean"},
    "pair_for_epsilon": {"loss_reduction": "mean"},
    "no_rate": {"loss_reduction": "mean"},
    "needs_closure": {"loss_reduction": "mean"},
    "warm_up_inside": {"loss_reduction": "mean"},
    "rate_zero": {"loss_reduction": "mean"},
    "two_rates": {"loss_reduction": "mean"},
    "zero_gradient": {"has_zero_gradient": True},
    "hidden_state": {"loss_reduction": "mean", "min_micro_batch_size": 1, "notes": ()},
    "generator": {"loss_reduction": "mean", "dataset_size": 256},
    "lying_length": {"loss_reduction": "mean", "dataset_size": 256},
    "left_out": {"loss_reduction": "mean", "variable_length": False},
    "missing_cell": {"loss_reduction": "mean", "variable_length": False},
    "huge_length": {"loss_reduction": "mean", "dataset_size": 10**12},
    "reads_arguments": {"base_batch_size": 16},
    "scripted": {"trainable_parameter_count": 51, "loss_reduction": "mean"},
    "used_instance": {"model_name": "Remembering", "loss_reduction": "mean"},
    "library_factory": {"model_name": "Student"},
    "lightning_hooks": {"base_batch_size": 20, "dataset_size": 256, "parameter_count": 197},
    "project": {"model_name": "Network"},
    "lazy_layers": {"model_name": "Sequential", "parameter_count": 227},
    "half_written_object": {"loss_reduction": "mean"},
    "batch_of_none": {"loss_reduction": "weighted"},
    "packed": {"variable_length": True, "loss_reduction": "mean"},
    "named_tuples": {"loss_reduction": "mean", "dataset_size": 256},
    "length_in_batches": {"dataset_size": 256, "loss_reduction": "mean"},
    "computed_weight": {"model_name": "Normed", "parameter_count": 27},
    "weight_norm": {"loss_reduction": "mean", "trainable_parameter_count": 211},
    "sparse_adam": {"loss_reduction": "mean"},
    "sparse_and_dense": {"loss_reduction": "mean"},
    "lightning_data_module": {"base_batch_size": 40, "dataset_size": 256},
    "lightning_closure": {"loss_reduction": "mean", "base_batch_size": 16},
    "lightning_started": {"base_batch_size": 20, "loss_reduction": "mean"},
    "lightning_logger": {"base_batch_size": 20, "loss_reduction": "mean"},
    "taken_apart": {"dataset_size": 256, "loss_reduction": "mean"},
    "eight_bits": {"loss_reduction": "mean", "notes": ()},
    "nested": {"variable_length": True, "loss_reduction": "mean"},
    "guarded_slot": {"loss_reduction": "mean"},
    "checked_dataclass": {"loss_reduction": "mean"},
    "own_parameters": {"parameter_count": 195, "trainable_parameter_count": 195},
    "half_made_instance": {"model_name": "Whole"},
    "proxies": {"loss_reduction": "mean"},
    "strict_methods": {"model_name": "Strict", "loss_reduction": "mean"},
    "closure_returns_a_number": {"loss_reduction": "mean"},
    "wrapped_optimizer": {"loss_reduction": "mean"},
    "factored_moments": {"loss_reduction": "mean"},
    "moves_its_rate": {"loss_reduction": "mean"},
    "numbers_of_numpy": {"base_batch_size": 16, "clip_grad_norm": 1.5},
    "complex_parameters": {"parameter_count": 15, "loss_reduction": "mean"},
    "children": {"loss_reduction": "mean"},
    "strict_surroundings": {"parameter_bytes": 8 * 195, "loss_reduction": "mean"},
    "samples_with_a_graph": {"loss_reduction": "mean"},
    "frozen_teacher": {"model_name": "Student", "loss_reduction": "mean"},
    "loss_in_training_alone": {"loss_reduction": "mean", "notes": ()},
    "own_surroundings": {"loss_reduction": "mean"},
    "label_out_of_range": {"loss_reduction": "mean"},
    "closure_asserted": {"loss_reduction": "mean"},
    "divided_queue": {"loss_reduction": "mean", "min_micro_batch_size": 1},
    "groups_of_samples": {"loss_reduction": "mean", "min_micro_batch_size": 16},
    "narrow_surroundings": {"loss_reduction": "mean"},
    "takes_a_function": {"loss_reduction": "mean"},
    "sharpness_aware": {"loss_reduction": "mean"},
    "ascent_in_a_group": {"loss_reduction": "mean"},
}
#: By file: what the message and its next step must name.
REFUSED = {
    "many_labels": ("independent labels", "loss_fn"),
    "factory_with_argument": ("create_model needs name", "--set name="),
    "lightning_two_loaders": ("2 loaders", "train_dataloader", "make_dataset"),
    "lightning_trainer": ("trainer.strategy", "make_optimizer"),
    "mapping_for_inputs": ("image", "def loss_fn"),
    "no_length": ("Rows", "__len__"),
    "corrupt_sample": ("sample 77 ", "truncated"),
    "splits": ("train, test", "Return the one dataset"),
    "optimizer_and_scheduler": ("tuple", "make_scheduler"),
    "uncopyable": ("network", "cannot be copied", "def make_model"),
    "whole_batches": ("batch_size=None", "make_dataset"),
    "only_a_loss": ("Focal", "no parameters", "make_model"),
    "loss_of_one": ("loss_fn", "loss_fn(model, batch)"),
    "distribution": ("Categorical", "loss_fn"),
    "mapping_in_one_piece": ("model(**batch)", "def loss_fn"),
    "sample_of_none": ("sample 60 ", "NoneType", "leave it out"),
    "cycled_loader": ("batches of 16", "DataLoader itself"),
    "wrapped_loader": ("batches of 16", "DataLoader itself"),
    "two_loaders": ("tuple (2)", "Return the one dataset"),
    "columns": ("columns of samples", "TensorDataset"),
    "path": ("'data/train.csv'", "TensorDataset"),
    "split_in_a_list": ("list (2)", "Return the one dataset"),
    "longer_than_it_is": ("of the 1000 of the Rows", "out of bounds"),
    "output_that_refuses": ("a Output", "def loss_fn"),
    "grows_layers": ("no parameters", "once on a batch"),
    "rate_written_below_zero": ("group 0 of SGD is -0.1", "above 0"),
    "takes_a_builtin": ("builtins.sorted", "Leave these as they are"),
    "closes_descriptors": ("closes files that it did not open", "os.closerange"),
    "rate_not_a_number": ("group 0 of AdamW is nan", "above 0"),
    "another_models_parameters": ("none of the parameters", "make_optimizer(model)"),
    "step_with_argument": ("the step that make_step returned", "without arguments"),
    "backward_in_loss": ("second time", "out of loss_fn"),
    "criterion_as_loss": ("in loss_fn(model, batch)", "inputs, targets = batch"),
    "message_beyond_text": ("ValueError: broken pixel", "in loss_fn"),
    "package_member": ("relative import", "package.module"),
    "needs_arguments": ("sys.exit(2)", "defaults"),
    "no_gradients": ("no gradient", "no_grad"),
    "steps_in_backward": ("no parameter of the model has a gradient", "make_step"),
    "several_optimizers": ("2 optimizers", "make_step"),
    "no_labels": ("without a loss", "usually labels"),
    "own_clock": ("time.perf_counter", "Leave the clocks"),
    "lightning_iterates": ("dataloader_iter", "loss_fn"),
}


@pytest.fixture
def find_workers(runner: Runner, open_workers):
    """A function: the workers for a file, which have imported Lightning where that names it."""

    def find(name: str) -> Runner:
        if not name.startswith("lightning"):
            return runner
        if not importlib.util.find_spec("lightning"):
            pytest.skip("lightning is not installed")
        return open_workers(_FOLDER / f"{name}.py")

    return find


@cache
def inspect(name: str, runner: Runner) -> WorkloadFacts:
    """What is found in the file, looked at once."""
    spec = WorkloadSpec(target=str(_FOLDER / f"{name}.py"), device="cpu")
    (facts,) = runner.run(InspectTask(workload=spec), timeout_s=_PATIENCE_S)
    return facts


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_the_file_is_understood(name: str, find_workers) -> None:
    facts = inspect(name, find_workers(name))
    found = {field: getattr(facts, field) for field in UNDERSTOOD[name]}
    assert found == UNDERSTOOD[name]


@pytest.mark.parametrize("name", REFUSED)
def test_the_file_is_refused_with_a_way_on(name: str, find_workers) -> None:
    with pytest.raises(AdvisorError) as failure:
        inspect(name, find_workers(name))
    error = failure.value
    assert error.exit_code == 5, error.message
    assert error.next_step
    for fragment in REFUSED[name]:
        assert fragment in f"{error.message}\n{error.next_step}"
    assert "advisor/training" not in (error.traceback or "")


def test_settings_of_any_type_are_read(runner: Runner) -> None:
    pair = inspect("pair_for_epsilon", runner).optimizer
    assert pair is not None
    assert (pair.learning_rate, pair.epsilon) == (pytest.approx(0.01), None)
    none = inspect("no_rate", runner)
    assert none.optimizer is not None
    assert (none.optimizer.learning_rate, none.optimizer.beta1) == (None, None)
    assert not needs_range(none)
    careful = inspect("needs_closure", runner).optimizer
    assert careful is not None
    assert careful.needs_closure


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("needs_closure", "alone"),
        ("closure_asserted", "alone"),
        ("closure_returns_a_number", "alone"),
        ("sharpness_aware", "after_backward"),
        ("wrapped_optimizer", "none"),
    ],
)
def test_how_an_optimizer_is_stepped_is_tried(name: str, use: str, runner: Runner) -> None:
    optimizer = inspect(name, runner).optimizer
    assert optimizer is not None
    assert optimizer.closure_use == use
    spec = WorkloadSpec(target=str(_FOLDER / f"{name}.py"), device="cpu", closure=use)
    task = MemoryTask(workload=spec, micro_batch_size=16, capacity_bytes=None, largest_samples=())
    (probe,) = runner.run(task, timeout_s=_PATIENCE_S)
    assert (probe.outcome, probe.steps) == ("fit", 3)


def test_the_rate_is_that_of_a_group_that_descends(runner: Runner) -> None:
    optimizer = inspect("ascent_in_a_group", runner).optimizer
    assert optimizer is not None
    assert optimizer.learning_rate == 0.1


def test_a_rate_of_zero_is_searched_and_a_warm_up_is_passed(runner: Runner) -> None:
    zero, warm = inspect("rate_zero", runner), inspect("warm_up_inside", runner)
    assert needs_range(zero)
    assert "is 0" in propose_learning_rate(zero, 32, None).reason
    assert warm.optimizer is not None
    assert warm.optimizer.learning_rate == 0.2
    assert not needs_range(warm)


def test_every_parameter_group_is_told_and_a_subclass_follows_its_ancestors_rule(
    runner: Runner,
) -> None:
    facts = inspect("two_rates", runner)
    optimizer = facts.optimizer
    assert optimizer is not None
    assert [group.learning_rate for group in optimizer.groups] == [0.0, 0.02, 0.1]
    assert [group.weight_decay for group in optimizer.groups] == [0.0, 1e-4, 0.0]
    assert sum(group.parameter_count for group in optimizer.groups) == facts.parameter_count
    assert optimizer.learning_rate == 0.02
    assert optimizer.class_names == ("Clipped", "SGD")
    assert name_family(optimizer) == "gradient"


def test_no_gradient_is_nothing_to_measure(runner: Runner) -> None:
    assert "gradient is exactly 0" in (explain_absence(inspect("zero_gradient", runner)) or "")


def test_what_is_wrong_with_samples_is_noted(runner: Runner) -> None:
    assert inspect("missing_cell", runner).not_finite_sample == 77
    assert "25% of the samples" in inspect("left_out", runner).notes[0]
    assert inspect("samples_of_a_class", runner).largest_samples[0] >= 380


def test_a_rate_that_moves_is_told_as_it_was_given(runner: Runner) -> None:
    optimizer = inspect("moves_its_rate", runner).optimizer
    assert optimizer is not None
    assert optimizer.learning_rate == 0.1


def test_a_project_may_have_a_module_that_is_called_as_an_installed_one(
    runner: Runner, tmp_path: Path
) -> None:
    package = tmp_path / "sympy"  # which torch loads
    package.mkdir()
    (package / "__init__.py").write_text("from sympy.nets import Network\n")
    (package / "nets.py").write_text("from torch import nn\nclass Network(nn.Linear): ...\n")
    (tmp_path / "model.py").write_text(
        "import torch\nfrom sympy import Network\n"
        "def make_model(): return Network(3, 2)\n"
        "def make_batch(size): return torch.ones(size, 3), torch.ones(size, 2)\n"
    )
    spec = WorkloadSpec(target=str(tmp_path / "model.py"), device="cpu")
    (facts,) = runner.run(InspectTask(workload=spec), timeout_s=_PATIENCE_S)
    assert facts.model_name == "Network"


def test_what_a_file_took_from_others_is_named_where_it_is_missed(runner: Runner) -> None:
    spec = WorkloadSpec(target=str(_FOLDER / "takes_a_function.py"), device="cpu")
    task = TrialTask(
        workload=spec,
        micro_batch_size=16,
        gradient_accumulation_steps=1,
        learning_rate=0.1,
        samples=64,
        seeds=(0,),
        budget_s=10.0,
    )
    with pytest.raises(AdvisorError, match=r"replaces math\.log, torch\.randperm") as failure:
        runner.run(task, timeout_s=_PATIENCE_S)
    assert failure.value.exit_code == 5


def test_a_sample_that_does_not_run_is_named(runner: Runner) -> None:
    spec = WorkloadSpec(target=str(_FOLDER / "label_out_of_range.py"), device="cpu")
    task = MemoryTask(workload=spec, micro_batch_size=256, capacity_bytes=None, largest_samples=())
    with pytest.raises(AdvisorError, match=r"sample 200 of the .* does not run") as failure:
        runner.run(task, timeout_s=_PATIENCE_S)
    assert failure.value.exit_code == 5


@pytest.mark.parametrize("name", ["samples_with_a_graph", "lazy_layers", "own_parameters"])
def test_steps_run_on_one_batch(name: str, runner: Runner) -> None:
    spec = WorkloadSpec(target=str(_FOLDER / f"{name}.py"), device="cpu")
    task = MemoryTask(workload=spec, micro_batch_size=16, capacity_bytes=None, largest_samples=())
    (probe,) = runner.run(task, timeout_s=_PATIENCE_S)
    assert (probe.outcome, probe.steps) == ("fit", 3)


@pytest.mark.parametrize(
    "name",
    [
        "complex_parameters",
        "sparse_and_dense",
        "factored_moments",
        "children",
        "sharpness_aware",
    ],
)
def test_every_stage_bears_it_and_the_advice_too(name: str, runner: Runner) -> None:
    see_every_stage(_FOLDER / f"{name}.py", runner)


@pytest.mark.usefixtures("shared_servers")
def test_sizes_that_the_model_refuses_are_left_out() -> None:
    target = _FOLDER / "divided_queue.py"
    memory = ask("memory", target=target, memory_limit_bytes=1 << 30).of(MEMORY)
    assert memory is not None
    assert memory.ooms == 0
    assert memory.refused
    assert memory.max_micro_batch_size is not None
    assert memory.max_micro_batch_size >= 16
    assert memory.limited_by != "memory"


def test_every_file_has_a_case() -> None:
    files = {path.stem for path in (ROOT / _FOLDER).glob("*.py")}
    assert files == {*UNDERSTOOD, *REFUSED, "rows"}
