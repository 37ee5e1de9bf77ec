"""Branches of one state, run in this process on small models."""

import copy
import random
import textwrap
from typing import NamedTuple

import pytest
import torch

from advisor.errors import WorkloadError
from advisor.rate.data import TrialTask
from advisor.sharpness import measure as sharpness
from advisor.sharpness.measure import SharpnessMeter
from advisor.sharpness.measure_eigenvalue import LargestEigenvalue
from advisor.training.data import WorkloadSpec
from advisor.verify import measure as verification
from advisor.verify.data import VerificationTask

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
    monkeypatch.setattr(verification, "keep_freed_memory", lambda device: None)

    def start(
        text,
        pairs,
        *,
        trunk_samples=160,
        budget_s=1e6,  # so that a busy machine leaves no sharpness out
        settings=None,
        rate=0.01,
        loss_is_sum=False,
        **options,
    ):
        path = tmp_path / "model.py"
        path.write_text(textwrap.dedent(text))
        workload = WorkloadSpec(target=str(path), device="cpu", settings=settings or {})

        def make_task(size, seed, samples, rate=rate):
            return TrialTask(
                workload=workload,
                micro_batch_size=size,
                gradient_accumulation_steps=1,
                learning_rate=rate,
                samples=samples,
                evaluations=5,
                seeds=(seed,),
                evaluation_batch_size=32,
                loss_is_sum=loss_is_sum,
            )

        branches = []
        task = VerificationTask(
            workload=workload,
            trunk=make_task(16, 0, trunk_samples),
            branches=tuple(make_task(size, seed, 320, rate * size / 16) for size, seed in pairs),
            budget_s=budget_s,
            **options,
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


LINEAR = """
import torch
from torch import nn
from torch.utils.data import TensorDataset

def make_dataset():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(256, 6, generator=generator) * torch.arange(1.0, 7.0)
    return TensorDataset(inputs, inputs.sum(1, keepdim=True))

def make_model():
    return nn.Linear(6, 1, bias=False)

def loss_fn(model, batch):
    inputs, targets = batch
    return (model(inputs) - targets).square().mean()

def make_optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=1e-4)
"""


def find_true_sharpness():
    inputs = torch.randn(256, 6, generator=torch.Generator().manual_seed(0))
    inputs = (inputs * torch.arange(1.0, 7.0)).double()
    return float(torch.linalg.eigvalsh(2.0 * inputs.T @ inputs / 256).max())


def test_the_sharpness_of_a_linear_regression_is_the_known_eigenvalue(train):
    branches = train(LINEAR, [(16, 0), (64, 0), (16, 1)], sharpness_batch_size=32, rate=1e-4)
    truth = find_true_sharpness()
    for branch in branches:
        assert branch.sharpness == pytest.approx(truth, rel=0.01)
        assert branch.sharpness_failure is None


def test_a_loss_that_sums_has_the_sharpness_of_its_mean(train):
    text = LINEAR.replace(".mean()", ".sum()")
    options = {"loss_is_sum": True, "rate": 1e-6}
    (branch,) = train(text, [(16, 0)], sharpness_batch_size=32, **options)
    assert branch.sharpness == pytest.approx(find_true_sharpness(), rel=0.01)


@pytest.mark.slow
def test_looking_at_the_sharpness_changes_nothing(train):
    pairs = [(16, 0), (32, 0), (16, 1)]
    plain = train(MODEL + HELD_OUT, pairs)
    looked = train(MODEL + HELD_OUT, pairs, sharpness_batch_size=32)
    assert all(branch.sharpness is not None for branch in looked)
    assert [losses(branch) for branch in looked] == [losses(branch) for branch in plain]
    assert [one.held_out for one in looked] == [one.held_out for one in plain]


def test_the_sharpness_leaves_weights_statistics_gradients_and_random_numbers(train, monkeypatch):
    seen = []

    class Spy(verification.SharpnessMeter):
        def measure(self, step, share_s, **options):
            before = self._training.copy_state(), torch.get_rng_state(), random.getstate()
            found = super().measure(step, share_s, **options)
            after = self._training.copy_state(), torch.get_rng_state(), random.getstate()
            seen.append((before, after))
            assert all(p.grad is None for p in self._training.model.parameters())
            assert self._training.model.training
            return found

    monkeypatch.setattr(verification, "SharpnessMeter", Spy)
    (branch,) = train(MODEL, [(16, 0)], sharpness_batch_size=32)
    assert branch.sharpness is not None
    ((before, after),) = seen
    torch.testing.assert_close(before[0].model, after[0].model, rtol=0, atol=0)
    torch.testing.assert_close(before[0].optimizer, after[0].optimizer, rtol=0, atol=0)
    assert torch.equal(before[1], after[1])
    assert before[2] == after[2]


ONCE = """
class Once(torch.autograd.Function):
    @staticmethod
    def forward(context, inputs):
        return inputs * 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, gradient):
        return gradient * 2

def loss_fn(model, batch):
    return (Once.apply(model(batch[0])) - batch[1]).square().mean()
"""


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (MODEL + ONCE, {"sharpness_batch_size": 32}, "cannot be differentiated again"),
        (MODEL, {"sharpness_batch_size": None}, "not expected to fit into memory"),
    ],
)
def test_why_there_is_no_sharpness_is_named_and_training_goes_on(train, text, options, said):
    branches = train(text, [(16, 0), (16, 1)], **options)
    assert len(branches) == 2
    for branch in branches:
        assert branch.sharpness is None
        assert said in branch.sharpness_failure


def test_a_sharpness_that_runs_out_of_memory_is_named(train, monkeypatch):
    def fail(self, batches):
        raise MemoryError

    monkeypatch.setattr(verification.SharpnessMeter, "_build", fail)
    (branch,) = train(MODEL, [(16, 0)], sharpness_batch_size=32)
    assert "more memory than there is" in branch.sharpness_failure


def test_a_sharpness_that_takes_too_long_is_left_out(train, monkeypatch):
    monkeypatch.setattr(verification.SharpnessMeter, "_time_product", lambda self: 1000.0)
    (branch,) = train(MODEL, [(16, 0)], sharpness_batch_size=32)
    assert branch.sharpness is None
    assert "2e+05 s" in branch.sharpness_failure


def test_a_sharpness_that_does_not_settle_in_time_is_no_figure(train, monkeypatch):
    monkeypatch.setattr(verification, "_PATIENCE", 0.0)
    (branch,) = train(MODEL, [(16, 0)], sharpness_batch_size=32)
    assert branch.sharpness is None
    assert "no time left" in branch.sharpness_failure
    cut = LargestEigenvalue(value=1.0, products=3, converged=False)
    monkeypatch.setattr(sharpness, "find_largest_eigenvalue", lambda *a, **b: cut)
    (branch,) = train(MODEL, [(16, 0)], sharpness_batch_size=32)
    assert branch.sharpness is None
    assert "had not settled" in branch.sharpness_failure


def test_a_branch_that_diverged_has_no_sharpness(train):
    (branch,) = train(LINEAR, [(16, 0)], sharpness_batch_size=32, rate=10.0)
    assert branch.diverged
    assert branch.sharpness is None
    assert branch.sharpness_failure is None


class Saved(NamedTuple):
    path: str
    weights: dict
    optimizer: dict


@pytest.fixture
def saved(tmp_path):
    """Some steps of the model with another rate, saved with its optimizer's state."""
    space = {}
    exec(MODEL, space)
    torch.manual_seed(5)
    model = space["make_model"]()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.5, weight_decay=0.3)
    inputs, targets = space["make_dataset"]().tensors
    for _ in range(3):
        optimizer.zero_grad()
        (model(inputs) - targets).square().mean().backward()
        optimizer.step()
    path = str(tmp_path / "saved.pt")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
    torch.save(model.state_dict(), str(tmp_path / "weights.pt"))
    return Saved(path, copy.deepcopy(model.state_dict()), optimizer.state_dict())


@pytest.fixture
def starts(monkeypatch):
    """The state from which the branches start, copied."""
    seen = []
    monkeypatch.setattr(
        verification,
        "SharpnessMeter",
        lambda workload, training, *rest, **options: (
            seen.append((training.copy_state(), [dict(g) for g in training.optimizer.param_groups]))
            or SharpnessMeter(workload, training, *rest, **options)
        ),
    )
    return seen


def assert_weights(state, saved):
    torch.testing.assert_close(state.model, dict(saved.weights), rtol=0, atol=0)


def test_branches_start_from_the_file_with_its_moments_and_the_model_files_settings(
    train, saved, starts
):
    (branch,) = train(MODEL, [(16, 0)], checkpoint=saved.path)
    ((state, groups),) = starts
    assert_weights(state, saved)
    for place, moments in saved.optimizer["state"].items():
        torch.testing.assert_close(state.optimizer["state"][place], moments)
    assert groups[0]["lr"] == 0.01
    assert groups[0]["weight_decay"] == 0.01
    assert branch.evaluations


def test_without_moments_in_the_file_they_are_filled_at_its_weights(train, saved, starts):
    path = saved.path.replace("saved.pt", "weights.pt")
    train(MODEL, [(16, 0)], checkpoint=path, trunk_samples=160)
    ((state, groups),) = starts
    assert_weights(state, saved)  # running statistics among them
    assert {int(each["step"]) for each in state.optimizer["state"].values()} == {10}
    assert all(float(each["exp_avg_sq"].max()) > 0 for each in state.optimizer["state"].values())
    assert groups[0]["lr"] == 0.01


def test_an_optimizer_without_a_state_needs_no_filling(train, tmp_path, monkeypatch):
    path = str(tmp_path / "weights.pt")
    torch.save({"weight": torch.ones(1, 6)}, path)
    steps = []
    real = verification.train_on
    monkeypatch.setattr(verification, "train_on", lambda *a: (steps.append(1), real(*a)))
    (branch,) = train(LINEAR, [(16, 0)], checkpoint=path, sharpness_batch_size=32, rate=1e-4)
    assert len(steps) == 1  # which found that out
    assert losses(branch)[0] == pytest.approx(0.0, abs=1e-9)  # ones are the solution


def test_the_file_of_another_model_is_an_error(train, tmp_path):
    path = str(tmp_path / "other.pt")
    torch.save({"weight": torch.ones(2, 2)}, path)
    with pytest.raises(WorkloadError, match="does not fit the model file"):
        train(LINEAR, [(16, 0)], checkpoint=path)


def test_lbfgs_starts_without_its_state(train, saved, starts, monkeypatch):
    text = MODEL.replace("AdamW(model.parameters(), lr=0.01)", "LBFGS(model.parameters())")
    path = saved.path.replace("saved.pt", "weights.pt")
    train(text, [], checkpoint=path)
    ((state, _),) = starts
    assert_weights(state, saved)
    assert not state.optimizer["state"]


def test_no_more_samples_are_held_than_fit_beside_training(train, monkeypatch):
    monkeypatch.setattr(sharpness, "MOST_BATCH_BYTES", 1)
    meters = []
    monkeypatch.setattr(
        verification,
        "SharpnessMeter",
        lambda *a, **b: meters.append(SharpnessMeter(*a, **b)) or meters[0],
    )
    (branch,) = train(LINEAR, [(16, 0)], sharpness_batch_size=32, rate=1e-4)
    assert branch.sharpness is not None
    assert len(meters[0]._batches) == 1
