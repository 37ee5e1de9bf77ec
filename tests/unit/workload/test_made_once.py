"""Functions of a model file that a script calls once are called again all the same."""

import pytest

from advisor.errors import WorkloadError
from advisor.training.data import WorkloadSpec
from advisor.training.inspection import inspect_workload
from advisor.training.model_file.workload import Workload

HEAD = """
import sys
import torch
from torch import nn

def make_dataset():
    return [(torch.randn(4), number % 3) for number in range(32)]

"""
#: After karpathy/minGPT, whose GPT(config) fills the config in and refuses a filled one.
FILLS_IN = """
config = {"name": "small", "width": None}
options = {"kind": "SGD", "lr": 0.1}

def make_model():
    assert config["width"] is None, "name or width, not both"
    config["width"] = {"small": 8}[config["name"]]
    return nn.Sequential(nn.Linear(4, config["width"]), nn.Linear(config["width"], 3))

def make_optimizer(model):
    return getattr(torch.optim, options.pop("kind"))(model.parameters(), **options)
"""
ONCE = """
def make_model():
    assert not hasattr(sys, "a_model_is_made"), "there is one already"
    sys.a_model_is_made = True
    return nn.Linear(4, 3)
"""


@pytest.fixture
def spec(tmp_path, monkeypatch):
    def write(text):
        path = tmp_path / "model.py"
        path.write_text(HEAD + text)
        return WorkloadSpec(target=str(path), device="cpu")

    return write


def test_a_configuration_that_is_used_up_is_read_anew(spec):
    workload = Workload(spec(FILLS_IN))
    for _ in range(3):
        training = workload.make_training()
        assert type(training.optimizer).__name__ == "SGD"
        assert sum(each.numel() for each in training.model.parameters()) == 67


def test_such_a_file_is_inspected_in_full(spec):
    facts = inspect_workload(spec(FILLS_IN), batch_multiple=1, without_steps=False)
    assert facts.loss_reduction == "mean"
    assert facts.notes == ()


def test_what_works_once_in_a_process_is_named_with_a_way_out(spec, monkeypatch):
    import sys

    workload = Workload(spec(ONCE))
    workload.make_model()
    with pytest.raises(WorkloadError, match=r"make_model works once .*there is one already") as end:
        workload.make_model()
    assert "copy.deepcopy" in end.value.next_step
    del sys.a_model_is_made


def test_what_fails_at_first_fails_as_it_is(spec):
    workload = Workload(spec("def make_model():\n    raise KeyError('width')\n"))
    with pytest.raises(KeyError, match="width"):
        workload.make_model()
