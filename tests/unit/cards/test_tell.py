"""What is printed: each part is marked measured, predicted or bounded, and fits the screen."""

import re

import pytest

from advisor.cards.data import Price
from advisor.cards.question import KIND as PREDICTION
from advisor.engine.record import Conclusions
from advisor.predict.data import CardsAsked
from advisor.report.console import collect, write_report
from advisor.report.page import render_page
from tests.unit.cards.sample_training import A100, BASE, H100, L4, T4, make_pair, make_training
from tests.unit.doubles import text_of
from tests.unit.predict.sample_record import build_record

ALL = (
    A100,
    H100,
    L4,
    T4,
    "RTX PRO 6000",
    "B200",
    "H200",
    "A10",
    "V100 32GB SXM",
    "RTX 4090",
    "L40S",
    "P100",
)


def render(*gpus, training=None, prices=(), is_full=False, memory=(), **options):
    record = build_record(
        gpus=gpus, gpu_memory_bytes=memory, training=training or make_training(), prices=prices
    )
    return text_of(
        write_report, PREDICTION, Conclusions(record), width=80, is_full=is_full, **options
    )


def test_one_card_is_answered_in_a_line():
    first = render(H100).splitlines()[0]
    assert first == "On H100 SXM train with batch 32, rate 1"


def test_of_several_the_first_is_named_and_by_what():
    assert render(H100, A100).startswith("H100 SXM is the fastest of 2 cards: train with batch 32")
    priced = render(
        H100, A100, prices=(Price(gpu=H100, per_hour=9.0), Price(gpu=None, per_hour=1.0))
    )
    assert priced.startswith("A100 80GB SXM is the cheapest of 2 cards: train with")
    partly = render(H100, A100, prices=(Price(gpu=H100, per_hour=9.0),))
    assert partly.startswith("H100 SXM is the fastest of 2 cards: train with")
    bounded = render(H100, A100, training=make_training(device="CPU"))
    assert bounded.startswith("H100 SXM is the fastest of 2 cards, by bounds alone: train")


def test_measured_predicted_and_bounded_times_look_different():
    text = render(H100, A100)
    assert re.search(r"H100 SXM +~ [\d,]+ +32 +1 +~ [\d.]+ to [\d.]+", text)
    assert re.search(r"A100 80GB SXM +4,096 +32 +1 +[\d.]+\n", text)
    assert "measured on the run's own card" in text
    bounded = render(H100, training=make_training(device="CPU"))
    assert re.search(r"H100 SXM +~ [\d,]+ +32 +1 +≥ [\d.e-]+", bounded)
    assert "≥ bounded by FLOPs and bytes, which no training reaches" in bounded.replace("\n", " ")


@pytest.mark.parametrize("device", [A100, "CPU"])
def test_any_number_of_cards_fits_the_first_screen(device):
    pairs = (make_pair(2048, samples=3.3), BASE, make_pair(64), make_pair(128, samples=1.2))
    prices = tuple(Price(gpu=name, per_hour=1.0 / 3.0) for name in ALL[:5])
    text = render(
        *ALL, memory=(24 << 30,), training=make_training(*pairs, device=device), prices=prices
    )
    assert len(text.splitlines()) <= 23
    assert max(map(len, text.splitlines())) <= 80


def test_what_may_be_faster_there_is_the_next_step():
    training = make_training(BASE, make_pair(64, samples=1.0), device="CPU")
    assert "→ Batch 64 may be faster there: probe on the card itself." in render(
        H100, training=training
    )


def test_a_card_of_which_nothing_is_known_but_its_memory_has_no_time():
    text = render(H100, memory=(24 << 30,), is_full=True)
    assert "fastest of 1 card: train" in text
    assert "neither its peak arithmetic nor its bandwidth is known" in " ".join(text.split())


def test_the_full_report_says_where_each_step_comes_from_and_what_it_assumes():
    text = " ".join(render(H100, A100, is_full=True).split())
    assert "scaled from A100 80GB SXM" in text
    assert "measured in run.json" in text
    assert "What the times assume" in text
    assert "Give --samples or --epochs" in text
    assert "the largest micro-batch is" not in text
    assert "all figures predicted, not run" in text  # what fits is told as without a run


def test_without_a_run_a_prediction_is_told_as_before():
    record = build_record(gpus=(H100,))
    text = text_of(write_report, PREDICTION, Conclusions(record), width=80)
    assert text.startswith("Predicted, not run: the largest micro-batch is")
    assert "What the times assume" not in text


def test_nothing_that_fits_is_no_answer():
    training = make_training(make_pair(2**19), may_split=False)
    assert render(T4, training=training).startswith("Nothing that was trained fits on T4")
    record = build_record(gpus=(T4,), training=training)
    assert PREDICTION.headline(Conclusions(record)).missing == ""


def test_the_page_has_a_chart_of_the_times():
    record = build_record(gpus=(H100, A100), training=make_training())
    (chart, *_) = collect(PREDICTION, Conclusions(record)).charts
    assert [each.x for each in chart.lines[0].data] == [H100, A100]
    assert all(each.low <= each.y for each in chart.lines[0].data)
    assert "Time to train by card" in render_page(PREDICTION, Conclusions(record))


def test_an_old_prediction_has_no_training():
    assert build_record(cards=CardsAsked(gpus=(T4,))).training is None


def test_the_table_of_a_narrow_terminal_keeps_the_names_of_the_cards():
    record = build_record(gpus=(H100,), training=make_training())
    console_text = text_of(write_report, PREDICTION, Conclusions(record), width=60, is_full=False)
    assert "H100 SXM" in console_text


def test_how_a_card_trains_and_what_the_user_said_stand_in_the_full_report():
    pairs = (make_pair(64, samples=1.0, count=2), make_pair(128, samples=1.01))
    training = make_training(*pairs, samples=3.2e6)
    text = " ".join(render(A100, training=training, is_full=True).split())
    assert "64 = 32 × 2" in text
    assert "The training takes 3,200,000 samples at the base batch." in text
    assert "Give --samples or --epochs" not in text
    priced = render(H100, prices=(Price(gpu=None, per_hour=2.5),), is_full=True)
    assert "; 2.5 an hour, as you said" in " ".join(priced.split())
    open_ = make_training(BASE, make_pair(64), make_pair(128), device="CPU")
    faster = " ".join(render(H100, training=open_, is_full=True).split())
    assert "batch 64, 128 was trained as well and may be faster there" in faster
