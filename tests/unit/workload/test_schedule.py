import itertools
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from advisor.errors import WorkloadError
from advisor.training.data import WorkloadSpec
from advisor.training.inspection import inspect_workload
from advisor.training.loop import train
from advisor.training.model_file.lightning import configured_optimizer, follow_scheduler, prepare
from advisor.training.model_file.workload import Workload
from advisor.training.optimizer_facts import restart_rates
from advisor.training.schedule import ScheduleObserver

_FILE = """
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import TensorDataset

CLIP_GRAD_NORM = {clip}

def make_model():
    return nn.Linear(5, 3)

def make_dataset():
    draw = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(64, 5, generator=draw), torch.arange(64) % 3)

def make_optimizer(model):
    return torch.optim.{optimizer}(model.parameters(), lr=0.1)

{scheduler}
"""
_COSINE = """
def make_scheduler(optimizer, total_steps, least: float = 0.0):
    return lr_scheduler.CosineAnnealingLR(optimizer, total_steps, eta_min=least)
"""


@pytest.fixture
def write(tmp_path):
    """A function that writes a model file and returns what is asked of it."""

    def write(scheduler="", *, clip="None", optimizer="SGD", **more):
        path = tmp_path / f"model_{len(list(tmp_path.iterdir()))}.py"
        path.write_text(_FILE.format(scheduler=scheduler, clip=clip, optimizer=optimizer))
        return WorkloadSpec(target=str(path), device="cpu", **more)

    return write


def inspect(spec):
    return inspect_workload(spec, batch_multiple=1, without_steps=False)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_training_clips_and_follows_the_schedule_as_a_loop_by_hand_does(write, seed, precision):
    torch.manual_seed(seed)
    clip, steps = 10.0 ** (-seed / 2.0), 7
    workload = Workload(write(_COSINE, clip=clip, precision=precision, optimizer="AdamW"))
    training = workload.make_training()
    by_hand = nn.Linear(5, 3)
    by_hand.load_state_dict(training.model.state_dict())
    batches = [workload.draw(8, torch.Generator().manual_seed(k)) for k in range(steps)]

    scheduler = workload.make_scheduler(training, steps)
    observers = [ScheduleObserver(scheduler)]
    train(training, iter(batches), observers, micro_batch_size=8, most_steps=steps)

    optimizer = torch.optim.AdamW(by_hand.parameters(), lr=0.1)
    schedule = lr_scheduler.CosineAnnealingLR(optimizer, steps)
    scaler = torch.amp.GradScaler("cpu", enabled=precision == "fp16")
    for inputs, targets in batches:
        with torch.autocast("cpu", dtype=torch.float16, enabled=precision == "fp16"):
            loss = nn.functional.cross_entropy(by_hand(inputs), targets)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(by_hand.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        schedule.step()
    for ours, theirs in zip(training.model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert training.optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-12)


def test_observers_see_the_gradient_before_it_is_clipped(write):
    norms = []
    watch = SimpleNamespace(after_step=lambda step: step.number < 3)
    for clip in ("None", "1e-6"):
        torch.manual_seed(0)
        workload = Workload(write(clip=clip))
        training = workload.make_training()
        seen = []
        watch.before_step = lambda step, training=training, seen=seen: seen.append(
            float(training.model.weight.grad.norm())
        )
        train(training, itertools.repeat(workload.take(range(8))), [watch], micro_batch_size=8)
        norms.append(seen)
    assert norms[0][0] == norms[1][0]
    assert norms[1][2] == pytest.approx(norms[1][0], rel=1e-4)  # such steps lead nowhere


def test_closures_are_clipped_too(write):
    torch.manual_seed(0)
    workload = Workload(write(clip="1e-9", optimizer="LBFGS"))
    training = workload.make_training()
    before = training.model.weight.detach().clone()
    training.step(workload.take(range(8)))
    torch.testing.assert_close(training.model.weight, before, atol=1e-6, rtol=0.0)


def test_the_facts_have_both_and_settings_reach_the_scheduler(write):
    facts = inspect(write(_COSINE, clip="2", settings={"least": "0.01"}))
    assert (facts.has_scheduler, facts.clip_grad_norm) == (True, 2.0)
    assert facts.optimizer.learning_rate == 0.1
    facts = inspect(write())
    assert (facts.has_scheduler, facts.clip_grad_norm) == (False, None)


def test_each_schedule_starts_from_the_rate_as_it_is(write):
    workload = Workload(write(_COSINE))
    training = workload.make_training()
    for rate in (0.3, 0.02):
        training.optimizer.param_groups[0]["lr"] = rate
        assert workload.make_scheduler(training, 9).base_lrs == [rate]


@pytest.mark.parametrize("value", ["-1.0", "0", "'1'", "True", "float('nan')", "float('inf')"])
def test_a_norm_that_is_none_is_refused(write, value):
    with pytest.raises(WorkloadError, match=r"CLIP_GRAD_NORM is .*, not a positive number"):
        Workload(write(clip=value))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return None", "returned a NoneType"),
        ("return lambda step: 1.0", "returned a function"),
        ("return lr_scheduler.ReduceLROnPlateau(optimizer)", "ReduceLROnPlateau"),
        (
            "return lr_scheduler.ConstantLR(torch.optim.SGD([torch.ones(1)], lr=0.1))",
            "another optimizer",
        ),
        (
            "return lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=total_steps)",
            "rates of its own",
        ),
        (
            "return lr_scheduler.LambdaLR(optimizer, lambda n: 1 - n / 50)",
            "gives a rate of -.* at step 51",
        ),
        ("return lr_scheduler.LambdaLR(optimizer, lambda n: 0.0)", "gives a rate of 0 all along"),
    ],
)
def test_a_schedule_that_cannot_be_followed_is_refused_when_the_file_is_read(write, body, message):
    with pytest.raises(WorkloadError, match=message):
        inspect(write(f"def make_scheduler(optimizer, total_steps):\n    {body}\n"))


def test_one_cycle_from_the_optimizers_rate_is_followed(write):
    body = "return lr_scheduler.OneCycleLR(optimizer, optimizer.param_groups[0]['lr'], total_steps)"
    facts = inspect(write(f"def make_scheduler(optimizer, total_steps):\n    {body}\n"))
    assert facts.has_scheduler
    assert facts.optimizer.learning_rate == 0.1


class LightningModule(nn.Module):
    """Stands in for the library's class, which is known by its name alone."""

    _trainer = None

    @property
    def trainer(self):
        if self._trainer is None:
            raise RuntimeError("not attached to a Trainer")
        return self._trainer


class Warmed(LightningModule):
    def __init__(self, interval, own_length=None):
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.interval, self.own_length = interval, own_length

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.4)
        steps = self.own_length or self.trainer.estimated_stepping_batches
        schedule = lr_scheduler.LambdaLR(optimizer, lambda step: step / steps)
        return [optimizer], [{"scheduler": schedule, "interval": self.interval}]


def test_the_schedule_of_a_lightning_module_is_stretched_and_scaled():
    model = prepare(Warmed("step"))
    optimizer = configured_optimizer(model)
    restart_rates(optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.4
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    steps, rates = model.trainer.estimated_stepping_batches, []
    follower = follow_scheduler(model, optimizer, 10)
    assert steps != 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(10):
            optimizer.step()
            follower.step()
            rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.01 * step for step in range(1, 11)])
    assert model.trainer.estimated_stepping_batches == steps


@pytest.mark.parametrize("model", [Warmed("epoch"), Warmed("step", own_length=10_000)])
def test_a_lightning_schedule_of_epochs_or_of_a_fixed_length_is_left_out(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert follow_scheduler(prepare(model), optimizer, 10) is None


class Resting(Warmed):
    """One of its groups rests at rate 0."""

    def configure_optimizers(self):
        groups = [{"params": self.layer.bias, "lr": 0.0}, {"params": self.layer.weight}]
        optimizer = torch.optim.SGD(groups, lr=0.4)
        steps = self.trainer.estimated_stepping_batches
        schedule = lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def test_a_group_that_rests_follows_no_course_and_the_others_do():
    model = prepare(Resting("step"))
    optimizer = configured_optimizer(model)
    restart_rates(optimizer)
    follower = follow_scheduler(model, optimizer, 4)
    optimizer.step()
    follower.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.0, 0.2])
