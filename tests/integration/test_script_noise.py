"""The gradients that are read along a script are those of a plain loop on the same batches.

Before clipping, without a loss's scale, at parameters that frozen steps have left alone.
"""

import runpy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from advisor.noise.data import NoiseTask, Trajectory
from tests.integration.conftest import SCRIPTS, make_script

_GROUPS = 8


@pytest.fixture
def measure(runner):
    """A function: a script and the points go in, its gradients' moments come out."""

    def run(name, *arguments, size, points, **more):
        task = NoiseTask(
            workload=make_script(name, *arguments, **more),
            trajectory=Trajectory(micro_batch_size=size, points=points, budget_s=60.0),
            micro_batch_size=size,
            groups=_GROUPS,
            max_micro_batches=2 * _GROUPS,
        )
        return runner.run(task, timeout_s=60)

    return run


def check(found, points, size, take_gradients, step):
    """See that the moments are those of a loop that skips what the script's was frozen for.

    `take_gradients` goes on to the next batch, `step` moves the parameters by its gradients.
    """
    assert [each.at_step for each in found] == list(points)
    trained = 0
    for number, batches in enumerate(found):
        while trained < batches.at_step:
            take_gradients()
            step(trained)
            trained += 1
        for _ in range(_GROUPS if number == 0 else 0):  # the first visit is thrown away
            take_gradients()
        sums = []
        for samples in batches.micro_batch_sizes:
            parts = [take_gradients() for _ in range(samples // size)]
            sums.append(size * torch.stack(parts).sum(0))
        sqnorms = [float(each.double().square().sum()) for each in sums]
        total = float(torch.stack(sums).sum(0).double().square().sum())
        assert batches.plain.group_sqnorms == pytest.approx(sqnorms, rel=1e-4)
        assert batches.plain.total_sqnorm == pytest.approx(total, rel=1e-4)


def flatten(model, divisor=1.0):
    return torch.cat([p.grad.flatten() for p in model.parameters()]) / divisor


def test_with_a_schedule_momentum_and_clipping_by_value(measure):
    points = (3, 20)
    found = measure("scheduled", "--batch-size", "{batch_size}", size=16, points=points)
    make_training = runpy.run_path(str(SCRIPTS / "scheduled.py"))["make_training"]
    data, model, optimizer, schedule = make_training()
    loader = iter(DataLoader(data, 16, shuffle=True, drop_last=True))

    def take_gradients():
        batch, targets = next(loader)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch), targets).backward()
        return flatten(model)

    def step(_trained):
        nn.utils.clip_grad_value_(model.parameters(), 0.02)
        optimizer.step()
        schedule.step()

    check(found, points, 16, take_gradients, step)


def test_with_accumulation_groups_and_a_warm_up_by_hand(measure):
    points = (2, 30)
    found = measure("accumulates", "batch={batch_size}", size=36, points=points, parts=3)
    torch.manual_seed(1337)
    inputs = torch.randn(4096, 16)
    targets = inputs @ torch.randn(16, 1)
    model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 1))
    first, last = ({"params": model[layer].parameters()} for layer in (0, 2))
    optimizer = torch.optim.AdamW([first, last | {"weight_decay": 0.0}], weight_decay=0.1)

    def take_gradients():
        optimizer.zero_grad()
        for _ in range(3):
            chosen = torch.randint(0, 4096, (12,))
            loss = nn.functional.mse_loss(model(inputs[chosen]), targets[chosen])
            (loss / 3).backward()
        return flatten(model)

    def step(trained):
        for group in optimizer.param_groups:  # in a tenth of the steps, not in a thousand
            group["lr"] = 0.01 * min(1.0, (trained + 1) / 3)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    check(found, points, 36, take_gradients, step)


def test_with_a_scaled_loss_whose_first_steps_are_left_out(measure):
    points = (2, 12)
    found = measure("scaled", "--batch-size", "{batch_size}", size=8, points=points)
    torch.manual_seed(0)
    inputs = torch.randn(4096, 16)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scale = 2.0**18

    def take_gradients():
        nonlocal scale
        while True:
            chosen = torch.randint(0, 4096, (8,))
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.float16):
                outputs = model(inputs[chosen])
                targets = inputs[chosen].sum(1, keepdim=True).to(outputs)
                loss = nn.functional.mse_loss(outputs, targets)
            (loss * scale).backward()
            gradients = flatten(model, scale)
            if gradients.isfinite().all():
                return gradients
            scale /= 2.0

    def step(_trained):
        for parameter in model.parameters():
            parameter.grad /= scale
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    check(found, points, 8, take_gradients, step)
