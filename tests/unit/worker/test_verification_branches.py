"""Branches of one state, run in this process on small models."""

import textwrap

import pytest

from advisor.spec import TrialTask, VerificationTask, WorkloadSpec
from advisor.worker import verification

MODEL = """
import torch
from torch import nn
from torch.utils.data import TensorDataset

def data(samples, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(samples, 6, generator=generator)
    noise = 0.3 * torch.randn(samples, 1, generator=generator)
    return TensorDataset(inputs, inputs.sum(1, keepdim=True) + noise)

def make_model():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 1))

def make_dataset():
    return data(256, 0)

def make_optimizer(model):
    return torch.optim.AdamW(model.parameters(), lr=0.01)
"""
HELD_OUT = """
def make_val_dataset(rows=128):
    return data(rows, 1)
"""
DUMB_IN_EVAL = """
class Moody(nn.Sequential):
    def forward(self, inputs):
        return super().forward(inputs) if self.training else {"answer": 42}

def make_model():
    return Moody(nn.Linear(6, 8), nn.Linear(8, 1))
"""


@pytest.fixture
def train(tmp_path, monkeypatch):
    """A function: a model file and (batch, seed) pairs go in, their branches come out."""
    monkeypatch.setattr(verification, "keep_freed_memory", lambda: None)

    def start(text, pairs, *, trunk_samples=160, budget_s=60.0, settings=None):
        path = tmp_path / "model.py"
        path.write_text(textwrap.dedent(text))
        workload = WorkloadSpec(target=str(path), device="cpu", settings=settings or {})

        def make_task(size, seed, samples, rate=0.01):
            return TrialTask(
                workload=workload,
                micro_batch_size=size,
                gradient_accumulation_steps=1,
                learning_rate=rate,
                samples=samples,
                evaluations=5,
                seeds=(seed,),
                evaluation_batch_size=32,
            )

        branches = []
        task = VerificationTask(
            workload=workload,
            trunk=make_task(16, 0, trunk_samples),
            branches=tuple(make_task(size, seed, 320, 0.01 * size / 16) for size, seed in pairs),
            budget_s=budget_s,
        )
        verification.run(task, branches.append)
        return branches

    return start


def losses(branch):
    return [each.loss for each in branch.evaluations]


def test_all_branches_start_from_the_state_after_the_trunk(train):
    branches = train(MODEL, [(16, 0), (32, 0), (16, 1)])
    assert len({losses(branch)[0] for branch in branches}) == 1
    (untrained,) = train(MODEL, [(16, 0)], trunk_samples=0)
    assert losses(untrained)[0] > losses(branches[0])[0]


def test_a_branch_does_not_depend_on_those_before_it(train):
    """Weights, running statistics, Adam's moments and random numbers all go back."""
    together = train(MODEL, [(32, 0), (16, 1), (32, 0), (16, 0)])
    (alone,) = train(MODEL, [(16, 0)])
    assert losses(together[0]) == losses(together[2])
    assert losses(together[3]) == losses(alone)


def test_seeds_change_the_order_of_the_data(train):
    one, two = train(MODEL, [(16, 0), (16, 1)])
    assert losses(one)[0] == losses(two)[0]
    assert losses(one)[1:] != losses(two)[1:]
    assert (one.seed, two.seed) == (0, 1)


def test_a_branch_is_evaluated_along_equal_samples(train):
    small, large = train(MODEL, [(16, 0), (64, 0)])
    assert [each.samples for each in small.evaluations] == [0, 64, 128, 192, 256, 320]
    assert [each.samples for each in large.evaluations] == [0, 64, 128, 192, 256, 320]
    assert large.learning_rate == pytest.approx(0.04)


def test_held_out_losses_are_taken_where_there_is_such_data(train):
    (branch,) = train(MODEL + HELD_OUT, [(16, 0)])
    assert [each.samples for each in branch.held_out] == [0, 64, 128, 192, 256, 320]
    assert branch.held_out[-1].held_out_loss != branch.held_out[-1].train_loss
    (without,) = train(MODEL, [(16, 0)])
    assert without.held_out == ()
    assert losses(without) == losses(branch)  # looking changes nothing


def test_the_held_out_data_takes_settings_of_its_own(train):
    (branch,) = train(MODEL + HELD_OUT, [(16, 0)], settings={"rows": "64"})
    assert branch.held_out


def test_a_model_without_a_loss_in_eval_mode_is_named_and_trains_on(train):
    (branch,) = train(MODEL + DUMB_IN_EVAL + HELD_OUT, [(16, 0)])
    assert branch.held_out == ()
    assert "Error" in branch.held_out_failure
    assert len(branch.evaluations) == 6


def test_a_spent_budget_starts_no_further_branch(train):
    assert train(MODEL, [(16, 0), (16, 1)], budget_s=0.0) == []


def test_memory_that_runs_out_leaves_the_other_batches(train, monkeypatch):
    real = verification.follow_branch

    def follow(workload, training, task, seed, **options):
        if task.micro_batch_size > 16:
            raise MemoryError
        return real(workload, training, task, seed, **options)

    monkeypatch.setattr(verification, "follow_branch", follow)
    branches = train(MODEL, [(16, 0), (32, 0), (16, 1), (32, 1)])
    assert [branch.global_batch_size for branch in branches] == [16, 16]


def test_an_error_of_the_model_file_is_not_hidden(train):
    text = MODEL + "\ndef loss_fn(model, batch):\n    raise ValueError('mine')\n"
    with pytest.raises(ValueError, match="mine"):
        train(text, [(16, 0)])
