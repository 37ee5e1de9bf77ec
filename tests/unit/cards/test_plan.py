"""Batch, rate, time and money by card, from a training and a trace of known figures."""

import pytest

from advisor.cards.data import Price
from advisor.cards.plan import USUAL_SAMPLES, answer_cards, choose_pair
from advisor.cards.step_time import CardSteps, take_steps
from advisor.device.catalogue import find_gpu
from tests.unit.cards.sample_training import (
    A100,
    BASE,
    H100,
    L4,
    T4,
    make_case,
    make_pair,
    make_training,
)


def answer(*gpus, training=None, prices=(), **case):
    answers = answer_cards(training or make_training(), make_case(*gpus, **case), prices)
    return {each.gpu: each for each in answers}


def test_on_the_runs_own_card_the_answer_is_the_runs():
    won = make_pair(128, samples=0.8, step_s=0.1, rate=2.0)
    found = answer(A100, training=make_training(won, BASE, samples=3.2e6))[A100]
    assert (found.basis, found.rank) == ("measured", 1)
    assert (found.global_batch_size, found.micro_batch_size) == (128, 128)
    assert found.learning_rate == 2.0
    steps = 3.2e6 / 128
    assert found.training_s.low == pytest.approx(0.1 * 0.8 / 1.1 * steps)
    assert found.training_s.high == pytest.approx(0.1 * 0.8 * 1.1 * steps)
    assert found.may_be_faster == ()


def test_a_card_that_was_not_in_the_catalogue_leaves_bounds_of_flops():
    training = make_training(device="AMD EPYC")
    found = answer(H100, training=training, flops_per_sample=10**13)[H100]
    peak = find_gpu(H100).peak_flops["tf32"]  # convolutions run as TF32, as torch comes
    assert found.basis == "bounded"
    assert found.training_samples == USUAL_SAMPLES
    assert found.training_s.low == pytest.approx(USUAL_SAMPLES * 10**13 / peak)
    assert found.training_s.high is None


def test_cards_come_in_the_order_of_the_most_that_they_take():
    found = answer(T4, L4, H100, A100)
    assert [found[name].rank for name in (H100, A100)] == [1, 2]
    assert {each.basis for each in found.values()} == {"measured", "predicted"}
    ranked = sorted(found.values(), key=lambda each: each.rank)
    most = [each.training_s.high for each in ranked]
    assert most == sorted(most)


def test_with_a_price_for_each_the_cheapest_comes_first():
    prices = (Price(gpu="h100", per_hour=100.0), Price(gpu=None, per_hour=2.0))
    found = answer(H100, A100, prices=prices)
    assert (found[A100].rank, found[H100].rank) == (1, 2)
    for each, price in ((found[H100], 100.0), (found[A100], 2.0)):
        assert each.price_per_hour == price
        assert each.training_price.high == pytest.approx(each.training_s.high / 3600 * price)


def test_a_price_for_some_alone_leaves_the_order_of_time():
    found = answer(H100, A100, prices=(Price(gpu=A100, per_hour=0.01),))
    assert (found[H100].rank, found[A100].rank) == (1, 2)
    assert (found[H100].training_price, found[A100].training_price.high > 0.0) == (None, True)


def test_a_batch_too_large_for_a_card_is_accumulated_there_at_the_same_rate():
    training = make_training(make_pair(2048, rate=3.0), BASE, gradient_bytes=64 * 2**20)
    found = answer(H100, T4, training=training, trace={"activation_bytes": 16 * 2**20})
    assert (found[H100].micro_batch_size, found[H100].gradient_accumulation_steps) == (2048, 1)
    assert found[T4].micro_batch_size < 1024
    assert found[T4].micro_batch_size * found[T4].gradient_accumulation_steps == 2048
    assert {each.learning_rate for each in found.values()} == {3.0}


def test_a_part_leaves_room_for_the_gradients_that_are_held():
    trace = {"activation_bytes": 4 * 2**20}
    sizes = [
        answer(T4, training=make_training(make_pair(2**20), gradient_bytes=held), trace=trace)[
            T4
        ].micro_batch_size
        for held in (1, 8 << 30)
    ]
    assert sizes[1] < sizes[0]


def test_where_a_step_cannot_be_split_another_batch_that_was_trained_is_taken():
    training = make_training(make_pair(2**16), BASE, may_split=False)
    assert answer(T4, training=training)[T4].global_batch_size == 32


def test_where_nothing_that_was_trained_fits_the_card_says_so_and_has_no_rank():
    training = make_training(make_pair(2**16), may_split=False)
    found = answer(T4, training=training)[T4]
    assert (found.rank, found.global_batch_size, found.training_s) == (None, None, None)
    assert "fits" in found.reason


def test_without_a_trace_there_is_no_answer():
    assert answer_cards(make_training(), make_case(H100).__class__(traces=()), ()) == ()


def test_another_pair_is_taken_only_where_every_way_has_it_surely_faster():
    own, other = make_pair(32, spread=0.0), make_pair(64, samples=1.0, spread=0.02)
    nearly_free = CardSteps("predicted", (), ((1.0, 1.1), (1.0, 1.2)))
    assert choose_pair([own, other], nearly_free) == (1, ())
    one_way = CardSteps("predicted", (), ((1.0, 1.1), (1.0, 1.95)))
    assert choose_pair([own, other], one_way) == (0, (64,))
    unsure = make_pair(64, samples=1.0, spread=0.8)
    assert choose_pair([own, unsure], nearly_free) == (0, (64,))
    assert choose_pair([own, other], CardSteps("predicted", (), ((1.0, 2.0),))) == (0, ())


def test_a_faster_card_takes_the_larger_batch_whose_steps_are_launched_at_the_same_cost():
    """On an L4 the larger batch takes twice the time; an H100 has both done at once."""
    training = make_training(
        make_pair(32, spread=0.0, step_s=0.9), make_pair(64, spread=0.02, step_s=1.75), device=L4
    )
    cost = {"flops_per_sample": 10**12}
    found = answer(L4, H100, training=training, **cost)
    assert found[L4].global_batch_size == 32
    assert found[H100].global_batch_size in {32, 64}
    assert (found[H100].global_batch_size == 64) or (64 in found[H100].may_be_faster)


def test_bounds_alone_change_no_batch_and_name_what_may_be_faster():
    larger, smaller = make_pair(128, samples=2.0), make_pair(8, samples=0.5)
    training = make_training(BASE, larger, smaller, make_pair(512, samples=40.0), device="CPU")
    found = answer(H100, training=training)[H100]
    assert found.global_batch_size == 32
    assert found.may_be_faster == (8, 128)  # 512 takes more steps than its size saves


def test_the_steps_of_the_run_leave_its_choice_as_it_was():
    pairs = [make_pair(64, samples=0.9), make_pair(32, spread=0.0)]
    assert choose_pair(pairs, take_steps(pairs))[0] == 0
