"""Each way of writing a model file that the contract allows is understood and measured."""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from advisor.engine.run_record import RunDocument
from advisor.training.data import TokenCount
from tests.integration.probe_command import ROOT, Outcome, ProbesAhead, probe_ahead, run_probe

_FOLDER = "tests/workloads/good"
_CROSS_ENTROPY = {"how_loss": "cross-entropy"}
_AMPLE_BUDGET = "60s"
_SYNTHETIC = {"has_dataset": False, "dataset_size": None, "how_batch": "make_batch"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model file and what must be found in it.

    Attributes:
        target: As the user types it; a bare file name lies in the folder of good workloads.
        facts: Fields of the workload: a part of the text of `how_…` and `model_name`, otherwise the
            value.
        optimizer: Fields of the optimizer.
        options: Further options of the command.
        needs: A package that may not be installed.
        budget: Wall clock; importing a large package takes its share.
    """

    target: str
    facts: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    needs: str | None = None
    budget: str = "6s"


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
        budget="15s",
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
        budget="15s",
    ),
    Case(
        target="lightning_scheduler.py",
        facts={"how_loss": "training_step", "dataset_size": 192, "base_batch_size": 24},
        optimizer={"name": "AdamW"},
        needs="lightning",
        budget="15s",
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
        options=("--set", "width=4", "--set", "seq_len=20", "--set", "rate=0.25"),
    ),
    Case(target="two_groups.py", optimizer={"name": "SGD", "learning_rate": 0.1}),
    Case(target="chatty.py", facts=_SYNTHETIC),
    Case(target="garbage_on_stdout.py", facts=_SYNTHETIC),
    Case(
        target="examples/digits.py",
        facts={**_CROSS_ENTROPY, "dataset_size": 1797, "base_batch_size": 32},
        optimizer={"name": "SGD", "learning_rate": 1.0},
        needs="sklearn",
        budget="10s",
    ),
    Case(
        target="examples/char_lm.py",
        facts={"how_loss": "loss_fn", "has_dataset": True, "base_batch_size": 32},
        options=("--set", "seq_len=16", "--set", "width=16"),
    ),
    Case(
        target="examples/convnet.py",
        facts={**_SYNTHETIC, "has_batch_statistics": True, "base_batch_size": 128},
        options=("--set", "width=4"),
    ),
    Case(target="examples/gan.py", facts={"is_step_only": True}),
)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.target.removesuffix(".py"))
def case(request: pytest.FixtureRequest) -> Case:
    if request.param.needs and not importlib.util.find_spec(request.param.needs):
        pytest.skip(f"{request.param.needs} is not installed")
    return request.param


@pytest.fixture(scope="module")
def probes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProbesAhead]:
    yield from probe_ahead(request, tmp_path_factory, CASES, _probe)


def _probe(case: Case, directory: Path) -> Outcome:
    """Return the command's outcome; on a machine too busy for the budget, with more of it."""
    is_bare = "/" not in case.target and case.target.endswith(".py")
    target = f"{_FOLDER}/{case.target}" if is_bare else case.target
    options = ("--max-batch", "8", "--json", "-", *case.options)
    budget = ("--budget", case.budget)
    outcome = run_probe(target, *budget, *options, directory=directory, threads=1)
    if '"limited_by": "budget"' in outcome.stdout:
        return run_probe(target, "--budget", _AMPLE_BUDGET, *options, directory=directory)
    return outcome


@pytest.fixture(scope="module")
def outcome(case: Case, probes: ProbesAhead) -> Outcome:
    """How the case's command ended."""
    return probes.get(case)


@pytest.fixture(scope="module")
def document(outcome: Outcome) -> RunDocument:
    """The one JSON document on stdout, whatever the user's code prints."""
    assert outcome.exit_code in {0, 3}, outcome.stderr[-3000:]
    return msgspec.json.decode(outcome.stdout, type=RunDocument)


def test_facts_of_the_file_are_understood(case: Case, document: RunDocument) -> None:
    assert document.workload is not None
    _assert_fields(document.workload, case.facts)
    if case.optimizer:
        assert document.workload.optimizer is not None
        _assert_fields(document.workload.optimizer, case.optimizer)


def test_memory_is_searched_up_to_the_cap(document: RunDocument) -> None:
    memory = document.derived.memory
    assert memory is not None
    assert memory.max_micro_batch_size == 8
    assert memory.limited_by == "cap"
    assert memory.verified


def test_noise_is_estimated_from_real_data_alone(document: RunDocument) -> None:
    assert document.workload is not None
    if document.workload.has_dataset:
        return
    assert document.noise_batches == ()
    noise = document.derived.noise
    assert noise is not None
    assert noise.status == "not_estimated"
    assert noise.reason
    assert noise.noise_scale is None


def test_no_process_outlives_the_command(outcome: Outcome) -> None:
    assert outcome.survivors == ()


def test_noise_is_not_claimed_for_a_loss_that_couples_samples(tmp_path: Path) -> None:
    target = f"{_FOLDER}/contrastive.py"
    options = ("--budget", "10s", "--max-batch", "8", "--json", "-")
    outcome = run_probe(target, *options, directory=tmp_path)
    document = msgspec.json.decode(outcome.stdout, type=RunDocument)
    assert document.derived.noise is None or document.derived.noise.status != "estimated"


def test_every_good_model_file_has_a_case() -> None:
    listed = {Path(case.target.partition(":")[0]).name for case in CASES}
    files = [*(ROOT / _FOLDER).glob("*.py"), *(ROOT / "examples").glob("*.py")]
    assert {file.name for file in files} <= listed


def _assert_fields(value: msgspec.Struct, expected: dict[str, Any]) -> None:
    for name, wanted in expected.items():
        found = getattr(value, name)
        if name.startswith("how_") or name == "model_name":
            assert wanted in found, name
        else:
            assert found == wanted, name
