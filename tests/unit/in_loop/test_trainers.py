"""A schedule where the trainer takes a step at multiples of the accumulation within an epoch."""

import pytest
import torch

from advisor.in_loop.trainers import TrainerSchedule

TABLE = "0:8 48:16"


def make(**trainers):
    schedule = TrainerSchedule(TABLE, rate_rule="linear")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule.make_schedule(micro_batch_size=4, **trainers).attach(optimizer)
    return schedule


def run(schedule, micro_batches, position=0):
    """Train an epoch's micro-batches as a trainer does; return how many each step had."""
    steps, done = [], 0
    accumulation = schedule.begin_step(position)
    for each in range(position + 1, micro_batches + 1):
        schedule.count()
        done += 1
        if each % accumulation == 0 or each == micro_batches:
            schedule.end_step()
            steps.append(done)
            done, accumulation = 0, schedule.begin_step(each % micro_batches)
    return steps


def test_without_a_trainer_there_is_no_schedule_to_ask():
    with pytest.raises(RuntimeError, match="before the Trainer"):
        TrainerSchedule(TABLE).begin_step(0)


def test_the_batch_doubles_at_the_tables_samples_and_steps_count_in_those_of_the_first():
    schedule = make()
    assert run(schedule, 20) == [2] * 6 + [4] * 2
    assert schedule.schedule.samples_seen == 20 * 4
    assert schedule.taken == 20 / 2  # a step of twice the first batch is worth two of it


def test_a_doubling_waits_for_a_multiple_of_its_own_accumulation():
    schedule = TrainerSchedule("0:8 40:16")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule.make_schedule(micro_batch_size=4).attach(optimizer)
    assert run(schedule, 16) == [2] * 6 + [4]


def test_a_run_goes_on_where_it_was_saved_on_another_number_of_ranks():
    schedule = make()
    steps = run(schedule, 8)
    schedule.begin_step(0)
    schedule.position = 8
    saved = schedule.state_dict()
    assert saved["epoch_samples"] == 32
    other = make(world_size=2)
    other.load_state_dict(saved)
    assert (other.taken, other.position) == (len(steps), 4)
    assert other.schedule.samples_seen == schedule.schedule.samples_seen == 32


def test_a_run_without_a_schedule_goes_on_with_its_steps_of_the_first_batch():
    schedule = make()
    schedule.start_at(6, position=4)
    assert (schedule.taken, schedule.position) == (6, 4)
    assert schedule.schedule.samples_seen == 6 * 8
    assert schedule.begin_step(4) == 4
