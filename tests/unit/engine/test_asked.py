"""What nothing can measure, or no record keeps, is refused by its name before anything runs."""

import sys
from types import SimpleNamespace

import msgspec
import pytest
import torch

from advisor.advice.data import SCENARIO, Scenario
from advisor.engine import command
from advisor.engine.spec import Limits, Spec
from advisor.engine.task import EnvironmentTask
from advisor.errors import UsageError, WorkloadError
from advisor.figures import MOST_SAMPLES
from advisor.questions import RUN
from advisor.training.data import WorkloadSpec
from advisor.training.model_file.discovery import read_base_batch_size
from advisor.training.model_file.training_data import batches_from_dataset
from tests.unit.doubles import Notes
from tests.unit.report.sample_run import build_environment


def execute(workload=None, asked=(), **limits):
    workload = workload or WorkloadSpec(target="model.py")
    spec = Spec(workload=workload, limits=Limits(**limits))
    return command.execute(
        RUN, spec, argv=["bsadvisor"], progress=Notes(), save=lambda _: None, asked=asked
    )


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"max_micro_batch_size": 10**12}, "max_micro_batch_size"),
        ({"batch_multiple": 10**12}, "batch_multiple"),
        ({"train_steps": 10**30}, "train_steps"),
        ({"budget_s": 1e15}, "budget_s"),
        ({"asked": ((SCENARIO, Scenario(samples=10**30)),)}, "samples"),
        ({"asked": ((SCENARIO, Scenario(epochs=1e20)),)}, "epochs"),
        ({"workload": WorkloadSpec(target="m.py", base_batch_size=10**12)}, "base_batch_size"),
    ],
)
def test_an_option_beyond_all_that_can_be_measured_is_named(asked, name):
    with pytest.raises(UsageError, match=rf"an option is beyond .*{name}"):
        execute(**asked)


class Opening:
    """Sees of the model file what no record keeps."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def run(self, task, *, timeout_s, on_result=None):
        if isinstance(task, EnvironmentTask):
            return (build_environment(),)
        raise msgspec.ValidationError("Expected `float` <= 1e+300 - at `$.clip_grad_norm`")


def test_a_setting_of_the_users_own_is_no_fault_of_ours(monkeypatch, tmp_path):
    model = tmp_path / "model.py"
    model.touch()
    monkeypatch.setattr(command, "Runner", Opening)
    with pytest.raises(WorkloadError, match=r"model.py: a setting is beyond .*clip_grad_norm"):
        execute(WorkloadSpec(target=str(model)))


def test_a_base_batch_that_none_can_be_is_refused_in_the_model_file():
    module = SimpleNamespace(BASE_BATCH_SIZE=10**12, __file__="model.py")
    with pytest.raises(WorkloadError, match="1000000000000, not a whole number from 1 to"):
        read_base_batch_size(module)


class Endless(torch.utils.data.Dataset):
    """As long as Python can say."""

    def __len__(self):
        return sys.maxsize

    def __getitem__(self, index):
        return torch.tensor(float(index))


def test_a_dataset_that_is_said_to_be_endless_has_a_length_that_is_kept():
    assert batches_from_dataset(Endless(), None).size == MOST_SAMPLES
