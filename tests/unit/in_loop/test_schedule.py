"""The batch of each step, and what its optimizer step is taken with."""

import copy
import io
import json

import pytest
import torch
from torch import nn

from advisor import BatchSizeSchedule
from tests.unit.in_loop.loops import INPUTS, TARGETS, Told, Training, say

TABLE = "0:8 100:16 200:32"


def test_the_accumulation_follows_the_table():
    training = Training(TABLE).train(300)
    assert training.batches == [8] * 13 + [16] * 6 + [32] * 4
    assert training.schedule.samples_seen == 13 * 8 + 6 * 16 + 4 * 32


def test_a_table_of_one_batch_trains_as_without_a_schedule():
    training, own = Training("0:16").train(320), Training("0:16")
    at = 0
    own.schedule.detach()
    while at < 320:
        for _ in range(4):
            rows = slice(at % 512, at % 512 + 4)
            (nn.functional.mse_loss(own.model(INPUTS[rows]), TARGETS[rows]) / 4).backward()
            at += 4
        own.optimizer.step()
        own.scheduler.step()
        own.optimizer.zero_grad()
    assert torch.equal(training.weights, own.weights)


@pytest.mark.parametrize(
    ("optimizer", "rule", "factors"),
    [
        ("AdamW", "optimizer", (1.0, 2**0.5, 2.0)),
        ("SGD", "optimizer", (1.0, 2.0, 4.0)),
        ("Adagrad", "optimizer", (1.0, 2**0.5, 2.0)),
        ("SGD", "sqrt", (1.0, 2**0.5, 2.0)),
        ("AdamW", "linear", (1.0, 2.0, 4.0)),
        ("AdamW", "none", (1.0, 1.0, 1.0)),
    ],
)
def test_the_rate_follows_by_the_rule_on_top_of_the_scheduler(optimizer, rule, factors):
    training = Training(TABLE, optimizer=optimizer, rate_rule=rule)
    plain = Training("0:8", optimizer=optimizer)
    training.train(300)
    plain.train(300)
    at = 0
    for batch, rate in zip(training.batches, training.rates, strict=True):
        expected = plain.rates[at // 8] * factors[(batch // 8).bit_length() - 1]
        assert rate == pytest.approx(expected, rel=1e-12)
        at += batch
    assert len(set(training.rates[-4:])) == 4  # the cosine goes on


def test_between_steps_the_optimizer_has_its_own_settings():
    training = Training(TABLE).train(300)
    (group,) = training.optimizer.param_groups
    assert (group["betas"], group["weight_decay"]) == ((0.9, 0.999), 0.05)
    assert group["lr"] == training.scheduler.get_last_lr()[0] < 0.01
    seen = {}
    training.optimizer.register_step_pre_hook(lambda *_: seen.update(group))
    training.train(training.schedule.samples_seen + 32)
    assert seen["betas"][1] == pytest.approx(0.999**4)
    assert seen["weight_decay"] == pytest.approx(0.05 * 4 / 2)


def test_a_step_that_raises_leaves_the_next_one_scaled_once():
    training = Training("0:8 8:32").train(40)

    def fail(*_):
        raise RuntimeError("interrupted")

    hook = training.optimizer.register_step_pre_hook(fail)
    with pytest.raises(RuntimeError, match="interrupted"):
        training.train(72)
    hook.remove()
    own = training.scheduler.get_last_lr()[0]
    training.train(training.schedule.samples_seen + 32)
    assert training.rates[-1] == pytest.approx(2 * own)


def test_a_scheduler_steps_as_often_as_samples_say():
    training = Training("0:8 16:12 64:32").train(64 + 32 * 3)
    assert training.batches == [8, 8, 12, 12, 12, 12, 32, 32, 32]
    assert training.scheduler.last_epoch == (64 + 32 * 3) // 8


def test_a_detached_schedule_scales_nothing():
    training = Training("0:8 8:32")
    training.schedule.detach()
    training.train(72)
    assert max(training.rates) <= 0.01


def test_a_second_schedule_of_an_optimizer_replaces_the_first():
    training = Training("0:8 8:32")
    training.schedule = BatchSizeSchedule("0:8 8:16", training.optimizer, micro_batch_size=4)
    seen = []
    training.optimizer.register_step_pre_hook(
        lambda own, *_: seen.append(own.param_groups[0]["lr"])
    )
    training.train(40)
    assert max(seen) == pytest.approx(2**0.5 * 0.01, rel=1e-3)


@pytest.mark.parametrize("seen", [0, 8, 100, 104, 120, 200, 296])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(seen):
    whole = Training(TABLE).train(600)
    first = Training(TABLE).train(seen)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    rest = Training(TABLE).load(torch.load(file, weights_only=True)).train(600)
    assert first.batches + rest.batches == whole.batches
    assert first.rates + rest.rates == whole.rates
    assert torch.equal(rest.weights, whole.weights)


def test_micro_batches_of_an_unfinished_step_are_seen_again():
    whole, first = Training(TABLE).train(300), Training(TABLE).train(110)
    first.schedule.should_step()
    state = copy.deepcopy(first.state_dict())
    assert state[-1]["samples_seen"] == first.schedule.samples_seen == 120
    assert torch.equal(Training(TABLE).load(state).train(300).weights, whole.weights)


def test_the_state_is_text_and_numbers():
    def make():
        return Training("0:8", monitor=Told(say(low=100.0)), patience_steps=1)

    state = make().train(48).schedule.state_dict()
    again = make().schedule
    again.load_state_dict(json.loads(json.dumps(state)))
    assert again.state_dict() == state
    assert (again.batch_size, again.rate_factor) == (32, pytest.approx(2.0))


def test_another_table_holds_from_where_the_run_is_resumed():
    state = Training(TABLE).train(110).state_dict()
    training = Training("0:8 100:64").load(state).train(300)
    assert training.batches == [64] * 3
    assert training.rates[0] == pytest.approx(8**0.5 * Training("0:8").train(121).rates[-1])


def test_a_run_that_had_no_schedule_goes_on_with_one():
    whole, first = Training("0:8 100:16").train(300), Training("0:8").train(104)
    rest = Training("0:8 100:16")
    for part in ("model", "optimizer", "scheduler"):
        getattr(rest, part).load_state_dict(getattr(first, part).state_dict())
    rest.schedule.start_at(104)
    assert torch.equal(rest.train(300).weights, whole.weights)


def test_a_batch_that_ranks_cannot_share_is_told_with_the_nearest():
    schedule = Training("0:64 1000:100", micro_batch_size=16, world_size=2).schedule
    with pytest.raises(ValueError, match=r"100 is no multiple of 32.*nearest are 96 and 128"):
        schedule.should_step()
    with pytest.raises(ValueError, match="nearest is 32"):
        _ = Training("0:8", micro_batch_size=16, world_size=2).schedule.micro_batches


@pytest.mark.parametrize("sizes", [{"micro_batch_size": 0}, {"world_size": 0}])
def test_a_micro_batch_of_no_sample_is_refused(sizes):
    with pytest.raises(ValueError, match="a sample at least"):
        BatchSizeSchedule("0:8", None, **{"micro_batch_size": 4, **sizes})


def test_batches_of_the_past_need_not_be_shared_by_the_ranks_of_now():
    state = Training(TABLE).train(110).state_dict()
    schedule = Training(TABLE, micro_batch_size=4, world_size=4).load(state).schedule
    assert schedule.micro_batches == 1


def test_ranks_exchange_with_the_last_micro_batch_alone():
    schedule, last = Training("0:8 8:16").schedule, []
    for _ in range(6):
        last.append(schedule.is_last_micro_batch)
        assert schedule.should_step() is last[-1]
    assert last == [False, True, False, False, False, True]


def test_a_step_that_the_scaler_leaves_out_is_counted_and_scales_nothing():
    training = Training("0:8 8:16")
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for n in range(6):
        loss = training.model(torch.ones(4, 8, dtype=torch.float64)).mean()
        loss = loss * (float("inf") if n == 3 else 1.0) / training.schedule.micro_batches
        scaler.scale(loss).backward()
        if training.schedule.should_step():
            scaler.step(training.optimizer)
            scaler.update()
            training.optimizer.zero_grad()
    assert training.schedule.samples_seen == 24
    assert [rate / 0.01 for rate in training.rates] == [1.0]


def test_the_batch_doubles_where_the_noise_scale_stays_above():
    monitor = Told()
    training = Training("0:8", monitor=monitor, largest_batch_size=32, patience_steps=5).train(80)
    assert set(training.batches) == {8}
    monitor.value = say(low=33.0, high=200.0)
    training.train(400)
    # wanted from the second step on, for 5 steps of 8; then 5 of 16; 32 is not below 33 / 2
    assert training.batches == [8] * 10 + [8] * 6 + [16] * 6 + [32] * 6
    monitor.value = say(low=1000.0)
    training.train(2000)
    assert set(training.batches[-20:]) == {32}


def test_an_end_that_dips_below_starts_the_wait_anew():
    monitor = Told(say(low=17.0))
    training = Training("0:8", monitor=monitor, patience_steps=5).train(40)
    monitor.value = say(low=15.0)
    training.train(48)
    monitor.value = say(low=17.0)
    training.train(88)
    assert set(training.batches) == {8}
    assert training.train(150).batches[-1] == 16


@pytest.mark.parametrize("may_shrink", [False, True])
def test_the_batch_shrinks_only_where_that_was_asked_for(may_shrink):
    monitor = Told(say(low=100.0, high=200.0))
    training = Training("0:8", monitor=monitor, patience_steps=2, may_shrink=may_shrink)
    training.train(160)
    assert training.batches[-1] >= 32
    monitor.value = say(low=0.5, high=1.0)
    training.train(2000)
    assert training.batches[-1] == (8 if may_shrink else max(training.batches))
    assert (training.schedule.rate_factor == 1.0) is may_shrink


def test_a_followed_noise_scale_damps_the_rate_of_sgd():
    monitor = Told(say(low=32.0, high=32.0))
    training = Training("0:8", optimizer="SGD", monitor=monitor, patience_steps=1).train(100)
    assert training.batches[-1] == 16
    assert training.schedule.rate_factor == pytest.approx(2 * (32 + 8) / (32 + 16))


@pytest.mark.parametrize("seen", [24, 64, 72, 88, 104])
def test_a_followed_run_goes_on_as_if_it_had_not_been_stopped(seen):
    def make():
        return Training("0:8", monitor=Told(say(low=40.0)), patience_steps=3)

    whole, first = make().train(300), make().train(seen)
    rest = make().load(copy.deepcopy(first.state_dict())).train(300)
    assert first.batches + rest.batches == whole.batches
    assert torch.equal(rest.weights, whole.weights)
    assert len(set(whole.batches)) == 3


def test_a_table_and_a_monitor_are_one_too_many():
    with pytest.raises(ValueError, match='as in "0:8"'):
        BatchSizeSchedule("0:8 9:16", None, micro_batch_size=4, monitor=Told())
