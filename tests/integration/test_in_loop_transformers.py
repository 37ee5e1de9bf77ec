"""The schedule in Hugging Face's own Trainer, with its own checkpoints."""

import itertools
import json
import os

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from tests.unit.in_loop.loops import INPUTS, TARGETS, Told, find_port, fork_ranks, say

#: 25 micro-batches of 4, so that an epoch ends in the middle of a step.
ROWS = 100
TABLE = "0:8 60:16 220:32"


class Rows(Dataset):
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"inputs": INPUTS[index], "labels": TARGETS[index]}


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)).double()

    def forward(self, inputs, labels=None):
        outputs = self.net(inputs)
        return {"loss": nn.functional.mse_loss(outputs, labels), "logits": outputs}


def make_notes(stop_at):
    from transformers import TrainerCallback

    class Notes(TrainerCallback):
        """What each optimizer step was taken with; stops in the middle where it is told to."""

        def __init__(self):
            self.rates, self.micro_batches, self.at = [], [], 0

        def on_train_begin(self, args, state, control, optimizer=None, **more):
            optimizer.optimizer.register_step_pre_hook(self.note)
            self.group = optimizer.optimizer.param_groups[0]

        def note(self, *_):
            self.rates.append(self.group["lr"])

        def on_substep_end(self, *_, **__):
            self.at += 1

        def on_step_end(self, args, state, control, **more):
            self.micro_batches.append(self.at + 1)
            self.at = 0
            control.should_training_stop |= state.global_step == stop_at

    return Notes()


def make(folder, *callbacks, stop_at=None, rows=ROWS, **settings):
    from transformers import Trainer, TrainingArguments

    torch.manual_seed(0)
    notes = make_notes(stop_at)
    given = {"num_train_epochs": 4, "save_strategy": "steps", "save_steps": 1, **settings}
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        learning_rate=0.01,
        lr_scheduler_type="cosine",
        weight_decay=0.1,
        max_grad_norm=0.5,
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        use_cpu=True,
        **given,
    )
    trainer = Trainer(Model(), arguments, train_dataset=Rows(rows), callbacks=[*callbacks, notes])
    return trainer, notes


def make_callback(*arguments, **settings):
    from advisor.in_loop.transformers import BatchSizeScheduleCallback

    return BatchSizeScheduleCallback(*arguments, **settings)


def make_noise(every):
    from advisor.in_loop.transformers import NoiseScaleCallback

    return NoiseScaleCallback(every=every)


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def train(folder, *callbacks, resume=None, **settings):
    trainer, notes = make(folder, *callbacks, **settings)
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return trainer, notes


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run, and its folder with a checkpoint of each step."""
    folder = tmp_path_factory.mktemp("whole")
    return (*train(folder, make_callback(TABLE)), folder)


def test_the_accumulation_follows_within_one_step(whole):
    trainer, notes, _ = whole
    # 60 samples are past after 8 steps, at a multiple of 4 micro-batches; 220 in the third epoch
    # after 4 of its micro-batches, so that 4 more come first
    epochs = [[2] * 8 + [4] * 2 + [1], [4] * 6 + [1], [4] * 2 + [8] * 2 + [1], [8] * 3 + [1]]
    assert notes.micro_batches == [*itertools.chain(*epochs)]
    assert sum(notes.micro_batches) == 4 * 25
    assert trainer.state.global_step == trainer.state.max_steps == 4 * 13
    assert trainer.args.gradient_accumulation_steps == 2


def test_the_rate_is_that_of_a_constant_batch_times_the_factor(whole, tmp_path):
    _, notes, _ = whole
    _, plain = train(tmp_path, gradient_accumulation_steps=2, save_strategy="no")
    at, factors = 0, {2: 1.0, 4: 2**0.5, 8: 2.0}
    batch = 2
    for count, rate in zip(notes.micro_batches, notes.rates, strict=True):
        batch = count if count > 1 else batch
        assert rate == pytest.approx(plain.rates[at] * factors[batch], rel=1e-9)
        at += -(-count // 2)


def test_a_table_of_one_batch_trains_as_the_trainer_does(tmp_path):
    ours, _ = train(tmp_path, make_callback("0:8"), save_strategy="no")
    plain, _ = train(tmp_path, gradient_accumulation_steps=2, save_strategy="no")
    assert torch.equal(weights(ours), weights(plain))


@pytest.mark.parametrize("step", [5, 10, 13, 15, 17, 30])
def test_a_resumed_run_ends_as_the_uninterrupted_one(whole, step, tmp_path):
    trainer, notes, folder = whole
    rest, seen = train(
        tmp_path,
        make_callback(TABLE),
        resume=folder / f"checkpoint-{step}",
        save_strategy="no",
    )
    assert notes.micro_batches[-len(seen.micro_batches) :] == seen.micro_batches
    assert torch.equal(weights(rest), weights(trainer))


def test_a_run_that_had_no_schedule_goes_on_with_one(whole, tmp_path):
    train(tmp_path, gradient_accumulation_steps=2, stop_at=5)
    checkpoint = tmp_path / "checkpoint-5"
    rest, _ = train(tmp_path, make_callback(TABLE), resume=checkpoint, save_strategy="no")
    assert torch.equal(weights(rest), weights(whole[0]))


def test_what_is_due_at_a_step_that_is_passed_over_is_done(tmp_path):
    train(tmp_path, make_callback("0:8 8:32"), save_steps=5)
    saved = sorted(int(path.name.partition("-")[2]) for path in tmp_path.glob("checkpoint-*"))
    assert [step // 5 for step in saved] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10]


def test_a_number_of_steps_counts_steps_of_the_first_batch(tmp_path):
    callback = make_callback("0:8 32:16")
    trainer, notes = train(tmp_path, callback, max_steps=20, save_strategy="no")
    assert notes.micro_batches == [2] * 4 + [4] * 4 + [1] + [4] * 4
    assert trainer.state.global_step == 21  # 19 were not enough


def test_the_batch_follows_a_monitor(tmp_path):
    def follow():
        monitor = Told(say(low=20.0, high=30.0))
        return make_callback("0:8", monitor=monitor, patience_steps=3)

    whole, notes = train(tmp_path, follow())
    assert [n for n in notes.micro_batches if n > 1][-1] == 4
    rest, _ = train(tmp_path, follow(), resume=tmp_path / "checkpoint-3", save_strategy="no")
    assert torch.equal(weights(rest), weights(whole))


@pytest.mark.slow
def test_a_monitor_watches_and_goes_on(tmp_path):
    def run(**settings):
        noise = make_noise(every=2)
        trained = train(tmp_path, noise, gradient_accumulation_steps=2, **settings)[0]
        return noise, trained

    whole, trained = run()
    plain, _ = train(tmp_path / "plain", gradient_accumulation_steps=2, save_strategy="no")
    assert torch.equal(weights(trained), weights(plain))
    assert whole.value.estimator == "micro-batches"
    assert whole.value.batch_size == 8
    rest, again = run(resume=tmp_path / "checkpoint-20", save_strategy="no")
    assert torch.equal(weights(again), weights(plain))
    steps = [entry.at_step for entry in rest.entries]
    assert min(steps) < 20 <= max(steps)


def test_the_batch_follows_its_noise_scale(tmp_path):
    noise = make_noise(every=1)
    callback = make_callback("0:8", monitor=noise, largest_batch_size=16, patience_steps=2)
    _, notes = train(tmp_path, noise, callback, num_train_epochs=12, save_strategy="no")
    assert (notes.micro_batches[0], notes.micro_batches[-2]) == (2, 4)
    assert callback.schedule.state_dict()["monitor"] == noise.state_dict()


def test_what_the_trainer_cannot_follow_is_refused(tmp_path):
    with pytest.raises(ValueError, match="smallest batch first"):
        make(tmp_path, make_callback("0:16 60:8"))
    with pytest.raises(ValueError, match="no multiple of 4"):
        make(tmp_path, make_callback("0:8 60:18"))
    trainer, _ = make(tmp_path)
    trainer.add_callback(make_callback(TABLE))
    with pytest.raises(RuntimeError, match="constructor"):
        trainer.train()


def run_rank(rank, folder, port):
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    callbacks = make_noise(every=1), make_callback(TABLE)
    train(folder, *callbacks, stop_at=10, rows=96, ddp_backend="gloo")


@pytest.mark.slow
def test_from_two_ranks_to_one(tmp_path):
    fork_ranks(run_rank, tmp_path / "two", find_port(), preload=["advisor.in_loop.transformers"])
    one = {"rows": 96, "save_strategy": "no"}
    whole, notes = train(tmp_path, make_callback(TABLE), **one)
    checkpoint = tmp_path / "two" / "checkpoint-10"
    rest, seen = train(tmp_path, make_callback(TABLE), resume=checkpoint, **one)
    assert notes.micro_batches == [2] * 8 + [4] + seen.micro_batches
    kept = json.loads((checkpoint / "trainer_state.json").read_text())["stateful_callbacks"]
    assert kept["bsadvisor_noise"]["estimator"] == "ranks"
    torch.testing.assert_close(weights(rest), weights(whole), rtol=1e-9, atol=1e-9)
