"""What a worker trains of a growing batch: batches, rates, and the loss at the end."""

import pytest
import torch

from advisor.growth import measure
from advisor.growth.data import GrowthTask, Leg
from advisor.rate.data import TrialTask
from advisor.training.data import WorkloadSpec

FILE = """
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import TensorDataset

def make_model():
    return nn.Linear(5, 3)

def make_dataset():
    draw = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(256, 5, generator=draw), torch.arange(256) % 3)

def make_optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
"""
WARM = """
def make_scheduler(optimizer, total_steps):
    return lr_scheduler.LinearLR(optimizer, 0.5, 1.0, total_iters=total_steps)
"""
GROWING = (
    Leg(steps=4, micro_batch_size=8, gradient_accumulation_steps=1),
    Leg(steps=2, micro_batch_size=8, gradient_accumulation_steps=2, rate_ratio=2.0),
)
CONSTANT = (Leg(steps=8, micro_batch_size=8, gradient_accumulation_steps=1),)


@pytest.fixture
def grow(tmp_path, monkeypatch):
    """A function: settings of the trial go in; the branches and each step's rate come out."""
    rates = []
    step = torch.optim.SGD.step

    def keep(self, *arguments, **options):
        rates.append(self.param_groups[0]["lr"])
        assert self.param_groups[0]["weight_decay"] == 0.05
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.SGD, "step", keep)

    def run(more="", course="legs", constant=(), **settings):
        path = tmp_path / "model.py"
        path.write_text(FILE + more)
        workload = WorkloadSpec(target=str(path), device="cpu")
        task = GrowthTask(
            workload=workload,
            growing=(GROWING,),
            constant=constant,
            rate_course=course,
            trial=TrialTask(
                workload=workload,
                micro_batch_size=8,
                gradient_accumulation_steps=1,
                samples=64,
                weight_decay=0.05,
                decay_fraction=0.5,
                **{"seeds": (3,), "learning_rate": 0.2, **settings},
            ),
        )
        branches = []
        measure.run(task, branches.append)
        return branches, rates

    return run


def test_a_leg_has_its_batch_and_its_rate(grow, monkeypatch):
    taken = []
    train_on = measure.train_on

    def watch(workload, training, task, stream, observers, steps):
        taken.append((task.global_batch_size, steps))
        train_on(workload, training, task, stream, observers, steps)

    monkeypatch.setattr(measure, "train_on", watch)
    (branch,), rates = grow()
    assert taken == [(8, 4), (16, 2)]
    assert rates == pytest.approx([0.2] * 4 + [0.4] * 2)
    assert (branch.is_growing, branch.legs, branch.seed) == (True, GROWING, 3)
    assert 0.5 < branch.loss < 2.0


@pytest.mark.parametrize(
    ("course", "more", "wanted"),
    [
        ("own", "", [0.2, 0.2, 0.2, 0.2, 0.4, 0.2]),  # falls over the last half of the samples
        ("own", WARM, [0.1, 0.1125, 0.125, 0.1375, 0.3, 0.35]),
        ("cosine", "", [0.2, 0.19239, 0.17071, 0.13827, 0.2, 0.05858]),
    ],
)
def test_the_rate_goes_by_samples_whatever_the_batch(grow, course, more, wanted):
    _, rates = grow(more, course)
    assert rates == pytest.approx(wanted, rel=1e-3)


def test_every_start_has_every_branch_and_both_sides_begin_alike(grow):
    branches, _ = grow(constant=(CONSTANT,), seeds=(3, 4))
    assert [(each.seed, each.is_growing) for each in branches] == [
        (3, True),
        (3, False),
        (4, True),
        (4, False),
    ]
    assert len({each.loss for each in branches}) == 4
    again, _ = grow(constant=(CONSTANT,), seeds=(3, 4))
    assert [each.loss for each in again] == [each.loss for each in branches]


def test_a_branch_that_diverges_has_no_loss(grow):
    (branch,), _ = grow(learning_rate=1e30)
    assert branch.loss is None
