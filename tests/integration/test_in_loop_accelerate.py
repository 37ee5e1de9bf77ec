"""The schedule in a loop of accelerate's, whose checkpoints hold its state."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from advisor import BatchSizeSchedule
from tests.unit.in_loop.loops import INPUTS, TARGETS

TABLE = "0:8 60:16 220:32"
#: 25 micro-batches an epoch: its last step goes on in the next one.
SIZE, ROWS = 4, 100


def train(folder, samples, *, resume=False):
    from accelerate import Accelerator, skip_first_batches

    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)).double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
    loader = DataLoader(TensorDataset(INPUTS[:ROWS], TARGETS[:ROWS]), SIZE)
    model, optimizer, scheduler, loader = accelerator.prepare(model, optimizer, scheduler, loader)
    schedule = BatchSizeSchedule(
        TABLE, optimizer, micro_batch_size=SIZE, world_size=accelerator.num_processes
    )
    accelerator.register_for_checkpointing(schedule)
    if resume:
        accelerator.load_state(str(folder))
    batches, rates = [], []
    optimizer.optimizer.register_step_pre_hook(
        lambda inner, *_: rates.append(inner.param_groups[0]["lr"])
    )
    done = schedule.samples_seen % ROWS // SIZE
    while schedule.samples_seen < samples:
        for inputs, targets in skip_first_batches(loader, done):
            loss = nn.functional.mse_loss(model(inputs), targets)
            accelerator.backward(loss / schedule.micro_batches)
            size = schedule.batch_size
            if schedule.should_step():
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step_scheduler(scheduler)
                optimizer.zero_grad()
                batches.append(size)
                if schedule.samples_seen >= samples:
                    break
        done = 0
    accelerator.save_state(str(folder))
    return torch.cat([p.detach().flatten() for p in model.parameters()]), batches, rates


@pytest.mark.parametrize("stop", [40, 128, 248])
def test_a_resumed_run_ends_as_the_uninterrupted_one(stop, tmp_path):
    whole, batches, rates = train(tmp_path / "whole", 600)
    _, first, first_rates = train(tmp_path / "part", stop)
    weights, rest, rest_rates = train(tmp_path / "part", 600, resume=True)
    assert first + rest == batches
    assert first_rates + rest_rates == rates
    assert set(batches) == {8, 16, 32}
    assert torch.equal(weights, whole)
