import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.advice.data import Moment, Scenario
from advisor.advice.decay_swap import conclude_decay_swap
from advisor.advice.schedule import LEAST_GAIN_FRACTION
from advisor.rate.rules import Rule, find_rule
from advisor.training.data import OptimizerFacts
from tests.unit.samples import affine, make_facts

SGD = OptimizerFacts(name="SGD", learning_rate=0.5)
ADAM = OptimizerFacts(name="AdamW", learning_rate=0.5)
SIZES = (1, 32, 64, 320, 1024, 4096)


def swap(optimizer=SGD, *, sizes=SIZES, start=32, facts=None, rate=0.5, largest=None, **scenario):
    return conclude_decay_swap(
        affine(sizes),
        start,
        find_rule(optimizer, start, rate),
        scenario=Scenario(**scenario),
        facts=facts or make_facts(optimizer=optimizer),
        largest_noise_scale=largest,
    )


def epochs(*places):
    return tuple(Moment(at=place, unit="epoch") for place in places)


def items_of(schedule):
    return [(item.global_batch_size, item.learning_rate) for item in schedule.items]


def test_without_a_rate_schedule_there_is_nothing_to_swap():
    assert swap(epochs=3.0) is None


def test_sgd_grows_the_batch_and_keeps_the_rate():
    schedule = swap(milestones=epochs(1, 2), epochs=3.0)
    assert items_of(schedule) == [(32, 0.5), (320, 0.5), (3200, pytest.approx(0.5))]
    assert [item.from_samples for item in schedule.items] == [0, 10**6, 2 * 10**6]
    assert [item.from_step for item in schedule.items] == [0, 31250, 31250 + 3125]


def test_adam_divides_the_rate_by_the_root():
    schedule = swap(ADAM, milestones=epochs(1), gamma=0.25, epochs=3.0)
    assert items_of(schedule) == [(32, 0.5), (128, 0.25)]


def test_where_the_batch_cannot_grow_the_rate_is_cut_for_the_rest():
    sgd, adam = (
        swap(each, sizes=(32, 64), milestones=epochs(1), epochs=3.0) for each in (SGD, ADAM)
    )
    assert items_of(sgd) == [(32, 0.5), (64, pytest.approx(0.1))]
    assert items_of(adam) == [(32, 0.5), (64, pytest.approx(0.05 * math.sqrt(2)))]


def test_a_summed_loss_needs_the_whole_cut():
    schedule = conclude_decay_swap(
        affine(SIZES),
        32,
        Rule("gradient", 32, 0.5, is_summed=True),
        scenario=Scenario(milestones=epochs(1), epochs=3.0),
        facts=make_facts(optimizer=SGD),
    )
    assert items_of(schedule) == [(32, 0.5), (320, pytest.approx(0.05))]


def test_the_gain_is_that_of_faster_samples():
    schedule = swap(milestones=epochs(1), epochs=2.0)
    before, after = (0.004 + 0.0001 * size for size in (32, 320))
    expected = 1 - (before / 32 + after / 320) / (2 * before / 32)
    assert schedule.gain_fraction == pytest.approx(expected)


def test_steps_count_at_the_base_batch():
    facts = make_facts(optimizer=SGD, base_batch_size=16)
    schedule = swap(facts=facts, milestones=(Moment(at=1000),), samples=32_000)
    assert [(item.from_step, item.from_samples) for item in schedule.items] == [
        (0, 0),
        (500, 16_000),
    ]


def test_milestones_after_the_end_are_left_out():
    schedule = swap(milestones=epochs(1, 5), epochs=2.0)
    assert len(schedule.items) == 2


def test_without_the_runs_length_the_gain_is_not_known():
    schedule = swap(milestones=epochs(1))
    assert (schedule.items, schedule.gain_fraction) == ((), None)
    assert "--epochs" in schedule.reason


@pytest.mark.parametrize(
    ("facts", "scenario"),
    [
        (make_facts(optimizer=SGD, base_batch_size=None), {"milestones": (Moment(at=10),)}),
        (make_facts(optimizer=SGD, dataset_size=None), {"milestones": epochs(1)}),
        (make_facts(optimizer=SGD, dataset_size=None), {"cosine": Moment(at=3, unit="epoch")}),
    ],
)
def test_places_that_cannot_be_counted_in_samples_are_said_so(facts, scenario):
    schedule = swap(facts=facts, **scenario)
    assert schedule.items == ()
    assert "not known in samples" in schedule.reason


def test_an_optimizer_without_a_rule_gets_no_swap():
    schedule = swap(OptimizerFacts(name="LBFGS"), milestones=epochs(1), epochs=2.0)
    assert schedule.items == ()
    assert "no rule" in schedule.reason


def test_a_cosine_doubles_the_batch_where_it_has_fallen_by_halves():
    schedule = swap(sizes=(32, 64, 128), cosine=Moment(at=3, unit="epoch"))
    assert items_of(schedule) == [(32, 0.5), (64, 0.5), (128, 0.5)]
    half, quarter = schedule.items[1:]
    assert half.from_samples == pytest.approx(1.5e6, abs=1)
    assert (1 + math.cos(math.pi * quarter.from_samples / 3e6)) / 2 == pytest.approx(0.25, abs=1e-5)
    assert "cosine goes on, times B/B_start" in schedule.rate_note


def test_a_batch_at_its_largest_cannot_be_swapped():
    schedule = swap(sizes=(16, 32), milestones=epochs(1), epochs=2.0)
    assert schedule.items == ()
    assert schedule.gain_fraction == pytest.approx(0.0)
    assert "twice the advised" in schedule.reason


def test_an_epoch_keeps_its_least_steps():
    facts = make_facts(optimizer=SGD, dataset_size=2000)
    schedule = swap(facts=facts, milestones=epochs(1), epochs=3.0)
    assert max(item.global_batch_size for item in schedule.items) == 96


def test_batches_above_the_measured_noise_scale_are_said_to_be_so():
    assert "above 100" in swap(milestones=epochs(1), epochs=3.0, largest=100.0).reason
    assert "above" not in swap(milestones=epochs(1), epochs=3.0, largest=1000.0).reason


def test_without_a_rate_that_was_run_only_the_batches_are_given():
    schedule = swap(rate=None, milestones=epochs(1), epochs=3.0)
    assert items_of(schedule) == [(32, None), (320, None)]
    assert schedule.rate_note == ""


@given(
    st.sets(st.integers(1, 4096), min_size=1, max_size=8),
    st.integers(0, 7),
    st.floats(0.01, 0.99),
    st.lists(st.floats(0.1, 10.0), min_size=1, max_size=4, unique=True),
    st.floats(0.5, 20.0),
    st.sampled_from([SGD, ADAM]),
)
def test_swaps_only_grow_stay_feasible_and_keep_the_noise_of_the_schedule(
    sizes, which, gamma, places, length, optimizer
):
    start = sorted(sizes)[which % len(sizes)]
    schedule = swap(
        optimizer,
        sizes=tuple(sorted(sizes)),
        start=start,
        milestones=epochs(*sorted(places)),
        gamma=gamma,
        epochs=length,
    )
    assert not schedule.items or schedule.gain_fraction >= LEAST_GAIN_FRACTION
    grown = [item.global_batch_size for item in schedule.items]
    assert grown == sorted(grown)
    power = 1.0 if optimizer is SGD else 0.5
    for index, item in enumerate(schedule.items):
        assert item.global_batch_size <= max(sizes)
        noise = item.learning_rate / item.global_batch_size**power
        assert noise == pytest.approx(0.5 * gamma**index / start**power)
