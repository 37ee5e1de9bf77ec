"""The schedule in Lightning's own Trainer, with its own checkpoints."""

import itertools
import os

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.unit.in_loop.loops import INPUTS, TARGETS, Told, find_port, fork_ranks, say

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's, of loaders and devices
TABLE = "0:8 60:16 220:32"


def make_module():
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)).double()
            self.rates, self.micro_batches, self.at = [], [], 0

        def training_step(self, batch, _index):
            self.at += 1
            return nn.functional.mse_loss(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=0.01, weight_decay=0.1)
            optimizer.register_step_post_hook(self.note)  # its closure is the last micro-batch
            # not estimated_stepping_batches, with which Lightning loads no loader's state
            scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4 * 13)
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

        def note(self, optimizer, *_):
            self.rates.append(optimizer.param_groups[0]["lr"])
            self.micro_batches.append(self.at)
            self.at = 0

    return Module()


class Loader:
    """A loader that knows where it is, as Lightning asks of one to resume within an epoch."""

    def __init__(self, rows=100):
        self.rows, self.at = rows, 0

    def __len__(self):
        return self.rows // 4

    def __iter__(self):
        self.at %= len(self)  # the Trainer does not ask beyond the last
        while self.at < len(self):
            rows = slice(4 * self.at, 4 * self.at + 4)
            self.at += 1
            yield INPUTS[rows], TARGETS[rows]

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


def fit(folder, *callbacks, resume=None, loader=None, when=None, **settings):
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import ModelCheckpoint

    module = make_module()
    when = when or {"every_n_train_steps": 1}
    keep = ModelCheckpoint(folder, filename="{step}", save_top_k=-1, **when)
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=0.5,
        callbacks=[*callbacks, keep],
        **{"devices": 1, "max_epochs": 4, **settings},
    )
    trainer.fit(module, loader or Loader(), ckpt_path=resume)
    return module, trainer


def make_callback(table=TABLE, **settings):
    from advisor.in_loop.lightning import BatchSizeScheduleCallback

    return BatchSizeScheduleCallback(table, micro_batch_size=4, **settings)


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run, and its folder with a checkpoint of each step."""
    folder = tmp_path_factory.mktemp("whole")
    return (*fit(folder, make_callback()), folder)


def test_the_accumulation_follows_within_one_step(whole):
    module, trainer, _ = whole
    epochs = [[2] * 8 + [4] * 2 + [1], [4] * 6 + [1], [4] * 2 + [8] * 2 + [1], [8] * 3 + [1]]
    assert module.micro_batches == [*itertools.chain(*epochs)]
    assert trainer.accumulate_grad_batches == 1


def test_the_rate_is_that_of_a_constant_batch_times_the_factor(whole, tmp_path):
    module, *_ = whole
    plain, _ = fit(tmp_path, accumulate_grad_batches=2)
    at, batch, factors = 0, 2, {2: 1.0, 4: 2**0.5, 8: 2.0}
    for count, rate in zip(module.micro_batches, module.rates, strict=True):
        batch = count if count > 1 else batch
        assert rate == pytest.approx(plain.rates[at] * factors[batch], rel=1e-9)
        at += -(-count // 2)
    assert at == len(plain.rates) == 4 * 13


def test_a_table_of_one_batch_trains_as_the_trainer_does(tmp_path):
    ours, _ = fit(tmp_path / "ours", make_callback("0:8"))
    plain, _ = fit(tmp_path / "plain", accumulate_grad_batches=2)
    assert torch.equal(weights(ours), weights(plain))


@pytest.mark.parametrize("step", [5, 10, 11, 14, 19, 22])
def test_a_resumed_run_ends_as_the_uninterrupted_one(whole, step, tmp_path):
    module, _, folder = whole
    rest, _ = fit(tmp_path, make_callback(), resume=folder / f"step={step}.ckpt")
    assert module.micro_batches[step:] == rest.micro_batches
    assert torch.equal(weights(rest), weights(module))


def test_a_run_that_had_no_schedule_goes_on_with_one(whole, tmp_path):
    fit(tmp_path, accumulate_grad_batches=2, max_epochs=1)
    rest, _ = fit(tmp_path / "rest", make_callback(), resume=tmp_path / "step=5.ckpt")
    assert torch.equal(weights(rest), weights(whole[0]))


def test_a_number_of_steps_counts_steps_of_the_first_batch(tmp_path):
    module, _ = fit(tmp_path, make_callback("0:8 32:16"), max_steps=20, max_epochs=-1)
    assert module.micro_batches == [2] * 4 + [4] * 4 + [1] + [4] * 4


def test_the_batch_follows_a_monitor(tmp_path):
    def make():
        return make_callback("0:8", monitor=Told(say(low=20.0, high=30.0)), patience_steps=3)

    whole, _ = fit(tmp_path, make())
    assert [n for n in whole.micro_batches if n > 1][-1] == 4
    rest, _ = fit(tmp_path / "rest", make(), resume=tmp_path / "step=3.ckpt")
    assert torch.equal(weights(rest), weights(whole))


def test_a_monitor_watches_and_goes_on(tmp_path):
    from advisor.in_loop.lightning import NoiseScaleCallback

    def run(folder, **settings):
        noise = NoiseScaleCallback(every=2)
        return noise, fit(folder, noise, accumulate_grad_batches=2, **settings)[0]

    whole, trained = run(tmp_path / "whole")
    plain, _ = fit(tmp_path / "plain", accumulate_grad_batches=2)
    assert torch.equal(weights(trained), weights(plain))
    assert whole.value.estimator == "micro-batches"
    assert whole.value.batch_size == 8
    rest, again = run(tmp_path / "rest", resume=tmp_path / "whole" / "step=20.ckpt")
    assert torch.equal(weights(again), weights(plain))
    steps = [entry.at_step for entry in rest.entries]
    assert min(steps) < 20 <= max(steps)


def test_what_the_trainer_cannot_follow_is_refused(tmp_path):
    with pytest.raises(ValueError, match="leave that out"):
        fit(tmp_path, make_callback(), accumulate_grad_batches=2)
    with pytest.raises(ValueError, match="no multiple of 4"):
        fit(tmp_path, make_callback("0:8 60:18"))


def share(rank, ranks):
    """A loader of the micro-batches that a rank takes in turn with the others."""
    rows = TensorDataset(INPUTS[:96], TARGETS[:96])
    batches = [list(range(n, n + 4)) for n in range(0, 96, 4)]
    return DataLoader(rows, batch_sampler=batches[rank::ranks])


def run_rank(rank, folder, port):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
    os.environ |= {"LOCAL_RANK": str(rank), "RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "0"}
    fit(
        folder,
        make_callback(),
        loader=share(rank, 2),
        strategy="ddp",
        devices=2,
        use_distributed_sampler=False,
        max_epochs=1,
        when={"every_n_epochs": 1, "save_on_train_epoch_end": True},
    )


@pytest.mark.slow
def test_from_two_ranks_to_one_at_the_end_of_an_epoch(tmp_path):
    fork_ranks(run_rank, tmp_path / "two", find_port(), preload=["advisor.in_loop.lightning"])
    whole, _ = fit(tmp_path / "whole", make_callback(), loader=share(0, 1))
    checkpoint = tmp_path / "two" / "step=10.ckpt"
    rest, _ = fit(tmp_path / "rest", make_callback(), resume=checkpoint, loader=share(0, 1))
    assert whole.micro_batches[10:] == rest.micro_batches
    torch.testing.assert_close(weights(rest), weights(whole), rtol=1e-9, atol=1e-9)
