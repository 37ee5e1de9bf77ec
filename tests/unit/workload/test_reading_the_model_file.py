import os
from types import ModuleType

import pytest
import torch
from torch import nn

from advisor.errors import UsageError, WorkloadError
from advisor.training.data import WorkloadSpec, parse_target
from advisor.training.model_file.discovery import discover
from advisor.training.model_file.lightning import find_loader, prepare
from advisor.training.model_file.loss import find_loss
from advisor.training.model_file.workload import Workload


def module(**names):
    made = ModuleType("model_file")
    vars(made).update(names)
    return made


def function(*_):
    return None


def test_a_step_with_data_and_no_model_is_all_there_is():
    names = discover(module(make_step=function, make_dataset=function), None)
    assert names.make_step is function
    assert names.model is None


@pytest.mark.parametrize("wanted", [None, "make_model"])
def test_a_model_with_data_comes_before_a_step(wanted):
    found = discover(module(make_step=function, make_model=function, make_batch=function), wanted)
    assert found.model is function
    assert found.make_step is None


def test_another_name_asked_for_comes_before_a_step():
    found = discover(module(make_step=function, student=function, make_batch=function), "student")
    assert found.model is function


def test_a_file_that_is_not_python_is_refused_as_a_model_file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: 1\n")
    with pytest.raises(UsageError, match=r"does not end in \.py") as caught:
        parse_target(str(path))
    assert "bsadvisor init" in caught.value.next_step


def test_a_name_that_is_no_text_is_refused(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.py")
    with pytest.raises(UsageError) as caught:
        parse_target(path)
    assert "UTF-8" in caught.value.message
    caught.value.message.encode()


class LightningModule(nn.Module):
    """Stands in for the library's class, which is known by its name alone."""


class OwnData(LightningModule):
    def prepare_data(self):
        self.prepared = True

    def setup(self, stage):
        assert self.prepared
        self.samples = [(torch.zeros(1), stage)]

    def train_dataloader(self):
        return torch.utils.data.DataLoader(self.samples, batch_size=4)


def test_a_lightning_module_prepares_its_own_data():
    loader = find_loader(prepare(OwnData()))
    assert loader is not None
    assert (loader.dataset[0][1], loader.batch_size) == ("fit", 4)


class Constant(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, inputs):
        return torch.zeros(len(inputs), *self.shape)


@pytest.mark.parametrize(("columns", "targets"), [((1,), (2,)), ((1, 3, 3), (2, 3, 3))])
def test_cross_entropy_of_one_column_is_refused(columns, targets):
    batch = (torch.zeros(2, 1), torch.zeros(targets, dtype=torch.long))
    with pytest.raises(WorkloadError, match="one column") as caught:
        find_loss(Constant(*columns), batch, None)
    assert "loss_fn" in caught.value.next_step


def test_one_position_of_a_language_model_is_not_one_column():
    batch = (torch.zeros(2, 1), torch.zeros((2, 1), dtype=torch.long))
    assert "cross-entropy" in find_loss(Constant(1, 7), batch, None).how


_LAZY = """
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("cache", None)

    def forward(self, inputs):
        if self.cache is None:
            self.cache = torch.ones(1)
        return self.norm(self.layer(inputs)) * self.cache

def make_model():
    return Model()

def make_batch(batch_size):
    return torch.randn(batch_size, 3), torch.zeros(batch_size, dtype=torch.long)
"""


def test_inferring_the_loss_keeps_statistics_and_allows_lazy_buffers(tmp_path):
    path = tmp_path / "lazy.py"
    path.write_text(_LAZY)
    workload = Workload(WorkloadSpec(target=str(path), device="cpu"))
    model = workload.make_model()
    workload.loss(model)
    assert model.cache is not None
    assert model.norm.running_mean.abs().sum() == 0
