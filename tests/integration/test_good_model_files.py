"""Each way of writing a model file that the contract allows is understood and measured."""

import importlib.util
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from advisor.engine.runner import Runner
from advisor.engine.task import InspectTask
from advisor.loader.data import LOADER_TIMINGS
from advisor.loader.plan import LOADER
from advisor.memory.plan import MEMORY
from advisor.noise.plan import NOISE, explain_absence
from advisor.training.data import TokenCount, WorkloadSpec
from tests.integration.asked import ask
from tests.integration.probe_command import ROOT, run_command
from tests.integration.stages import see_every_stage

_FOLDER = "tests/workloads/good"
_CROSS_ENTROPY = {"how_loss": "cross-entropy"}
_PATIENCE_S = 120.0
_SYNTHETIC = {"has_dataset": False, "dataset_size": None, "how_batch": "make_batch"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model file and what must be found in it.

    Attributes:
        target: As the user types it; a bare file name lies in the folder of good workloads.
        facts: Fields of the workload: a part of the text of `how_…` and `model_name`, otherwise the
            value.
        optimizer: Fields of the optimizer.
        settings: What `--set` gives.
        needs: A package that may not be installed.
    """

    target: str
    facts: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    needs: str | None = None


CASES = (
    Case(
        target="alias_create_model.py",
        facts={**_SYNTHETIC, **_CROSS_ENTROPY, "how_model": "create_model", "parameter_count": 27},
        optimizer={"name": "AdamW", "is_default": True},
    ),
    Case(target="alias_build_model.py", facts={"how_model": "build_model"}),
    Case(
        target="alias_get_model.py",
        facts={"how_model": "get_model", "parameter_count": 27},
    ),
    Case(target="imported_factory.py", facts={"how_model": "make_model", "parameter_count": 63}),
    Case(target="unique_class.py", facts={"how_model": "Network", "model_name": "Network"}),
    Case(target="unique_instance.py", facts={"how_model": "network", "parameter_count": 75}),
    Case(
        target=f"{_FOLDER}/other_name.py:student",
        facts={"how_model": "student", "parameter_count": 27},
    ),
    Case(
        target="tests.workloads.good.other_name:student",
        facts={"how_model": "student", "parameter_count": 27},
    ),
    Case(
        target="dict_batch.py",
        facts={"how_loss": ".loss of model(**batch)", "dataset_size": 256, "has_dataset": True},
    ),
    Case(
        target="transformers_bert.py",
        facts={"how_loss": ".loss of model(**batch)", "model_name": "BertForSequence"},
        needs="transformers",
    ),
    Case(
        target="lightning_module.py",
        facts={
            "how_loss": "training_step",
            "how_optimizer": "configure_optimizers",
            "how_batch": "train_dataloader",
            "dataset_size": 256,
            "base_batch_size": 16,
        },
        optimizer={"name": "SGD", "learning_rate": 0.05},
        needs="lightning",
    ),
    Case(
        target="lightning_scheduler.py",
        facts={"how_loss": "training_step", "dataset_size": 192, "base_batch_size": 24},
        optimizer={"name": "AdamW"},
        needs="lightning",
    ),
    Case(
        target="mean_squared_error.py",
        facts={
            "how_loss": "mean squared error",
            "loss_reduction": "mean",
            "dataset_size": 256,
            "base_batch_size": 8,
        },
        optimizer={"name": "SGD", "learning_rate": 0.1, "is_default": False},
    ),
    Case(target="custom_loss.py", facts={"how_loss": "loss_fn", "loss_reduction": "mean"}),
    Case(target="sum_loss.py", facts={"loss_reduction": "sum", "base_batch_size": 8}),
    Case(target="contrastive.py", facts={"loss_reduction": "coupled"}),
    Case(
        target="token_weighted.py",
        facts={
            "loss_reduction": "weighted",
            "variable_length": True,
            "dataset_size": 192,
            "token_count": TokenCount(tensor=1, ignored=-100),
        },
    ),
    Case(
        target="variable_length.py",
        facts={**_CROSS_ENTROPY, "variable_length": True, "dataset_size": 128},
    ),
    Case(target="lbfgs.py", optimizer={"name": "LBFGS", "needs_closure": True}),
    Case(target="sparse_adam.py", facts=_CROSS_ENTROPY, optimizer={"name": "SparseAdam"}),
    Case(
        target="tied_weights.py",
        facts={**_CROSS_ENTROPY, "parameter_count": 192, "parameter_bytes": 768},
    ),
    Case(
        target="frozen_parameters.py",
        facts={"parameter_count": 387, "trainable_parameter_count": 99},
    ),
    Case(
        target="batch_norm.py",
        facts={"min_micro_batch_size": 2, "has_batch_statistics": True},
    ),
    Case(target="dropout.py", facts={"has_batch_statistics": False, "loss_reduction": "mean"}),
    Case(target="iterable_with_length.py", facts={"dataset_size": 200, "has_dataset": True}),
    Case(target="endless_stream.py", facts={"dataset_size": None, "has_dataset": True}),
    Case(target="make_batch_only.py", facts={**_SYNTHETIC, **_CROSS_ENTROPY}),
    Case(
        target="make_step.py",
        facts={"is_step_only": True, "has_dataset": False, "optimizer": None},
    ),
    Case(
        target="settings.py",
        facts={"parameter_count": 16 * 4 + 4 * 16 + 16},
        optimizer={"learning_rate": 0.25},
        settings={"width": "4", "seq_len": "20", "rate": "0.25"},
    ),
    Case(target="two_groups.py", optimizer={"name": "SGD", "learning_rate": 0.1}),
    Case(target="chatty.py", facts=_SYNTHETIC),
    Case(target="garbage_on_stdout.py", facts=_SYNTHETIC),
    Case(
        target="examples/digits.py",
        facts={**_CROSS_ENTROPY, "dataset_size": 1797, "base_batch_size": 32},
        optimizer={"name": "SGD", "learning_rate": 1.0},
        needs="sklearn",
    ),
    Case(
        target="examples/char_lm.py",
        facts={"how_loss": "loss_fn", "has_dataset": True, "base_batch_size": 32},
        settings={"seq_len": "16", "width": "16"},
    ),
    Case(
        target="examples/convnet.py",
        facts={**_SYNTHETIC, "has_batch_statistics": True, "base_batch_size": 128},
        settings={"width": "4"},
    ),
    Case(target="examples/gan.py", facts={"is_step_only": True}),
)


def _target(case: Case) -> str:
    is_bare = "/" not in case.target and case.target.endswith(".py")
    return f"{_FOLDER}/{case.target}" if is_bare else case.target


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            id=case.target.removesuffix(".py"),
            marks=[pytest.mark.slow] * (case.needs in {"lightning", "transformers"}),
        )
        for case in CASES
    ],
)
def test_facts_of_the_file_are_understood(case: Case, runner: Runner, open_workers) -> None:
    if case.needs and not importlib.util.find_spec(case.needs):
        pytest.skip(f"{case.needs} is not installed")
    if case.needs == "lightning":
        runner = open_workers(_target(case))
    spec = WorkloadSpec(target=_target(case), settings=case.settings, device="cpu")
    (facts,) = runner.run(InspectTask(workload=spec), timeout_s=_PATIENCE_S)
    _assert_fields(facts, case.facts)
    if case.optimizer:
        assert facts.optimizer is not None
        _assert_fields(facts.optimizer, case.optimizer)
    why = explain_absence(facts)
    assert why is not None or facts.has_dataset
    if facts.loss_reduction == "coupled":
        assert why is not None


@pytest.mark.slow
@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize("name", ["lightning_module", "make_step", "garbage_on_stdout"])
def test_the_cap_is_the_largest_and_without_data_there_is_no_noise(name: str) -> None:
    found = ask("memory", "loader", target=f"{_FOLDER}/{name}.py", max_micro_batch_size=8)
    memory, noise = found.of(MEMORY), found.of(NOISE)
    assert memory is not None
    assert memory.max_micro_batch_size == 8
    assert memory.limited_by == "cap"
    assert memory.verified
    if not found.record.workload.has_dataset:
        assert noise is not None
        assert noise.status == "not_estimated"
        assert noise.reason
        assert noise.noise_scale is None
        assert found.of(LOADER) is None
        assert found.record.all(LOADER_TIMINGS) == ()


@pytest.mark.slow
def test_every_stage_bears_a_lightning_module(open_workers) -> None:
    pytest.importorskip("lightning")
    path = ROOT / _FOLDER / "lightning_module.py"
    see_every_stage(path, open_workers(path))


@pytest.mark.slow
def test_what_a_file_prints_is_not_in_the_document(tmp_path: Path) -> None:
    target = f"{_FOLDER}/garbage_on_stdout.py"
    outcome = run_command(
        *("predict", target, "--gpu-memory", "8GiB", "--micro-batch-size", "8", "--json", "-"),
        directory=tmp_path,
    )
    assert outcome.exit_code == 0, outcome.stderr[-3000:]
    assert json.loads(outcome.stdout)["workload"]["has_dataset"] is False
    assert outcome.survivors == ()


def test_every_good_model_file_has_a_case() -> None:
    listed = {Path(case.target.partition(":")[0]).name for case in CASES}
    examples = (ROOT / "examples").glob("*.py")
    models = [each for each in examples if "def make_" in each.read_text()]  # others are scripts
    assert {file.name for file in (*(ROOT / _FOLDER).glob("*.py"), *models)} <= listed


def _assert_fields(value: msgspec.Struct, expected: dict[str, Any]) -> None:
    for name, wanted in expected.items():
        found = getattr(value, name)
        if name.startswith("how_") or name == "model_name":
            assert wanted in found, name
        else:
            assert found == wanted, name
