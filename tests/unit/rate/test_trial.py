"""What a worker trains for a trial: rates, lengths, settings, and what they are evaluated on."""

import msgspec
import pytest
import torch

from advisor.rate import measure
from advisor.rate.data import TrialTask
from advisor.training.data import WorkloadSpec

FILE = """
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import TensorDataset

def make_model():
    return nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.1), nn.Linear(8, 3))

def make_dataset():
    draw = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(256, 5, generator=draw), torch.arange(256) % 3)

def make_optimizer(model):
    return torch.optim.AdamW([
        {"params": model[0].parameters(), "lr": 0.01, "weight_decay": 0.1},
        {"params": model[2].parameters(), "lr": 0.001, "weight_decay": 0.02},
    ])
"""
COSINE = """
def make_scheduler(optimizer, total_steps):
    return lr_scheduler.CosineAnnealingLR(optimizer, total_steps)
"""


@pytest.fixture
def trial(tmp_path):
    """A function: fields of the task go in, the branches come out."""

    def run(scheduler="", **fields):
        path = tmp_path / "model.py"
        path.write_text(FILE + scheduler)
        task = TrialTask(
            workload=WorkloadSpec(target=str(path), device="cpu"),
            **{
                "micro_batch_size": 8,
                "gradient_accumulation_steps": 1,
                "learning_rate": 0.02,
                "samples": 320,
                "seeds": (0, 1),
                "evaluations": 20,
                **fields,
            },
        )
        branches = []
        measure.run(task, branches.append)
        return branches

    return run


@pytest.fixture
def groups_at_steps(monkeypatch):
    """The parameter groups, as they were at each optimizer step."""
    seen = []
    step = torch.optim.AdamW.step

    def keep(self, *arguments, **options):
        names = ("lr", "betas", "weight_decay")
        seen.append([{name: group[name] for name in names} for group in self.param_groups])
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", keep)
    return seen


def losses(branch):
    return {each.samples: each.loss for each in branch.evaluations}


def test_each_start_is_trained_for_each_length(trial):
    branches = trial(shorter_samples=(160, 80))
    assert [(branch.seed, branch.samples) for branch in branches] == [
        (seed, samples) for seed in (0, 1) for samples in (320, 160, 80)
    ]
    whole, half, _ = branches[:3]
    shared = losses(whole).keys() & losses(half).keys()
    assert len(shared) > 5
    assert all(losses(whole)[n] == losses(half)[n] for n in shared)  # the same start and data
    assert losses(whole)[0] != losses(branches[3])[0]
    assert {branch.decays_from for branch in branches} == {None}


def test_without_a_schedule_the_rate_falls_to_nothing_on_a_line(trial, groups_at_steps):
    (branch,) = trial(seeds=(0,), decay_fraction=0.25)
    (plain,) = trial(seeds=(0,))
    rates = [groups[0]["lr"] for groups in groups_at_steps[:40]]
    assert rates[:30] == pytest.approx([0.02] * 30)
    assert rates[30:] == pytest.approx([0.02 * (10 - k) / 11 for k in range(10)])
    assert all(one["lr"] == pytest.approx(10 * two["lr"]) for one, two in groups_at_steps[:40])
    assert branch.decays_from == 240
    own, other = losses(branch), losses(plain)
    assert all(own[n] == other[n] for n in own if n <= 240)
    assert own[320] != other[320]


def test_the_users_schedule_is_stretched_over_each_branch(trial, groups_at_steps):
    branches = trial(COSINE, seeds=(0,), decay_fraction=0.25, shorter_samples=(160,))
    assert {branch.decays_from for branch in branches} == {0}
    rates = [groups[0]["lr"] for groups in groups_at_steps]
    for start, count in ((0, 40), (40, 20)):
        own = rates[start : start + count]
        assert own[0] == pytest.approx(0.02)
        assert own == sorted(own, reverse=True)
        assert own[-1] < 0.02 * 0.05


def test_settings_reach_every_group_and_keep_their_ratios(trial, groups_at_steps):
    (branch,) = trial(seeds=(0,), beta2=0.95, weight_decay=0.4)
    assert (branch.beta2, branch.weight_decay) == (0.95, 0.4)
    for first, second in groups_at_steps:
        assert first["betas"] == second["betas"] == (0.9, 0.95)
        assert (first["lr"], second["lr"]) == pytest.approx((0.02, 0.002))
        assert (first["weight_decay"], second["weight_decay"]) == pytest.approx((0.4, 0.08))


def test_accumulation_trains_as_the_whole_batch_does(trial):
    (whole,) = trial(seeds=(0,), micro_batch_size=32, samples=960, evaluation_samples=64)
    (parts,) = trial(
        seeds=(0,), micro_batch_size=8, gradient_accumulation_steps=4, samples=960,
        evaluation_samples=64,
    )  # fmt: skip
    assert parts.global_batch_size == whole.global_batch_size == 32
    assert losses(whole).keys() == losses(parts).keys()
    assert losses(whole)[0] == losses(parts)[0]
    # Dropout draws anew for each micro-batch, so that the ends are only near.
    assert losses(parts)[960] == pytest.approx(losses(whole)[960], rel=0.2)


def test_batches_of_evaluations_are_made_once_and_user_code_gets_copies(trial, monkeypatch):
    asked = []
    take = measure.Workload.take

    def count(self, indices):
        asked.append(tuple(indices))
        return take(self, indices)

    monkeypatch.setattr(measure.Workload, "take", count)
    trial(seeds=(0, 1), evaluation_samples=64, evaluation_batch_size=32)
    evaluated = [each for each in asked if len(each) == 32]
    assert len(evaluated) == len(set(evaluated)) == 2


def test_a_branch_that_diverges_ends_and_says_so(trial):
    (branch,) = trial(seeds=(0,), learning_rate=1e30)
    assert branch.diverged
    assert branch.evaluations[-1].samples < 320


def test_no_start_is_begun_after_the_time(trial):
    assert trial(budget_s=-1.0) == []


def test_a_branch_survives_its_json(trial):
    branch = trial(seeds=(0,), decay_fraction=0.3)[0]
    assert msgspec.json.decode(msgspec.json.encode(branch), type=type(branch)) == branch
