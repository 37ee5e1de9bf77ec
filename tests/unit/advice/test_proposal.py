import ast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.advice.tell import head_run
from advisor.engine.record import Command
from advisor.engine.spec import Limits
from advisor.race.plan import RACE
from advisor.rate.data import OptimizerChanges
from advisor.training.data import OptimizerFacts
from advisor.units import format_figure, format_percent
from tests.unit.advice.test_schedule import make_noise as make_course
from tests.unit.samples import (
    ADAMW,
    FACTS,
    FAST,
    FIXED_S,
    FLAT,
    LIMITED,
    NOISE,
    PER_SAMPLE_S,
    SATURATED,
    SLOW,
    UNKNOWN_NOISE,
    conclude,
    derive,
    make_branches,
    make_memory,
    make_noise,
    make_pairs,
    make_probes,
    make_record,
    make_throughput,
    propose,
    recommend,
)

INSTRUCTIONS = ("Add", "Set", "Raise", "Compare", "Count", "Tune", "Stay", "Check", "Give")
GENERALISATION = (
    "All of this is about training loss, not about how the model generalises: at equal training "
    "loss small batches often do better (Keskar et al. 2016), while short 1-cycle schedules at "
    "high rates may favour large ones (Smith 2018)."
)
LAW = (
    "The noise scale is 400 samples (300 to 550): by it and the speed of steps in your loop alone, "
    "which is right within a factor of 2, batch 128 would train fastest."
)
LENGTH = (
    "The times hold for trainings as long as those of the run, 187 steps of batch 32. "
    "--train-steps says how long you train."
)


def recommend_from(others, base=(32, 1.0), facts=FACTS, **parts):
    return recommend(make_record(facts, make_pairs(others, base)), **parts)


def conclude_from(trials):
    parts = {"memory": make_memory(), "throughput": make_throughput(), "noise": NOISE}
    return conclude(make_record(trials=trials), **parts)


def test_the_reasons_of_a_small_record_read_like_this():
    advice = recommend_from({(128, 3.27): FAST})
    assert advice.basis == "winner"
    assert (advice.global_batch_size, advice.learning_rate.value) == (128, 3.27)
    assert (advice.interval.low, advice.interval.high) == (128, 128)
    assert advice.limiting_factor == "noise"
    assert advice.reasons == (
        (
            "Batch 128 at 3.27 took 0.29 × (0.254 to 0.338) the time of your own pair, batch 32 at "
            "1, to the same loss, from 3 starts that had no part in picking it."
        ),
        (
            "Batch 256 is 14 % faster per sample in your loop, but by the noise needs 24 % more of "
            "them."
        ),
        LAW,
        LENGTH,
        GENERALISATION,
    )
    assert advice.warnings == ()
    assert advice.snippet == (
        "loader = torch.utils.data.DataLoader("
        "dataset, batch_size=128, shuffle=True, drop_last=True)\n"
        "for group in optimizer.param_groups:  # before a scheduler is made\n"
        '    group["lr"] *= 3.27\n'
    )


def test_where_nothing_is_faster_the_own_pair_stays_and_there_is_nothing_to_paste():
    advice = recommend_from({(128, 3.27): SLOW})
    assert (advice.basis, advice.global_batch_size) == ("stay", 32)
    assert advice.learning_rate.value == 1.0
    assert advice.snippet == ""
    assert advice.warnings == ()
    assert advice.expected.time_ratio is None
    assert advice.reasons[0].startswith(
        "Stay with your own pair, batch 32 at 1: of 1 other pair trained none was surely faster; "
        "the best, batch 128 at 3.27, took 1.16 ×"
    )


def test_a_pair_that_looks_faster_by_the_starts_that_picked_it_is_told_as_such():
    trials = make_branches(32, 1.0) + make_branches(128, 3.27, FAST)
    advice = recommend(make_record(trials=trials))
    assert "none was surely faster; the best, batch 128 at 3.27, took 0." in advice.reasons[0]
    assert "in the starts that it was picked by: those that count were not run" in advice.reasons[0]
    remarks = head_run(conclude_from(trials)).remarks
    assert remarks[0] == "Nothing that was tried was surely faster; batch 128 at 3.27 may be."
    slower = make_branches(32, 1.0) + make_branches(128, 3.27, SLOW)
    assert head_run(conclude_from(slower)).remarks[0] == "Nothing that was tried was surely faster."


def test_where_the_own_pair_alone_was_trained_no_other_is_said_to_have_been():
    advice = recommend_from({})
    assert advice.basis == "stay"
    assert advice.learning_rate.reason == "your own; no other was trained"
    assert "the time did not suffice to train another" in advice.reasons[0]


def test_the_expected_time_is_the_one_that_was_measured():
    expected = recommend_from({(128, 3.27): FAST}).expected
    own, other = ((FIXED_S + PER_SAMPLE_S * size) / size for size in (128, 32))
    assert expected.is_measured
    assert expected.cost_ratio == expected.time_ratio
    assert expected.time_ratio.point == pytest.approx(0.5 * own / other, rel=0.01)
    assert expected.time_ratio.low < expected.time_ratio.point < expected.time_ratio.high


def test_a_pair_that_no_fresh_start_confirmed_is_not_advised():
    trials = make_branches(32, 1.0) + make_branches(128, 3.27, FAST)
    advice = recommend(make_record(trials=trials))
    assert (advice.basis, advice.global_batch_size) == ("stay", 32)
    assert "surely faster" in advice.reasons[0]


def test_two_fresh_starts_confirm_nothing():
    trials = make_pairs({(128, 3.27): FAST})
    trials = [branch for branch in trials if branch.seed != 5]
    assert recommend(make_record(trials=trials)).basis == "stay"


def test_without_any_trial_the_own_pair_stands_and_time_is_asked_for():
    advice = recommend()
    assert (advice.basis, advice.global_batch_size) == ("untried", 32)
    assert advice.learning_rate.value == 1.0
    assert (advice.expected.time_ratio, advice.snippet) == (None, "")
    (warning,) = advice.warnings
    assert warning.endswith("Raise --budget so that pairs can be trained.")


def test_a_base_pair_alone_asks_for_time():
    advice = recommend(make_record(trials=make_branches(32, 1.0)))
    assert advice.basis == "stay"
    assert advice.reasons[0].endswith("the time did not suffice to train another.")
    headline = head_run(conclude_from(make_branches(32, 1.0)))
    assert headline.answer.startswith("Stay with batch 32")
    assert headline.remarks == ("There was no time to train another and to confirm it.",)
    (warning,) = advice.warnings
    assert "Raise --budget" in warning


@pytest.mark.parametrize(
    ("others", "pair"),
    [
        ({(128, 2.0): FAST}, (128, 2.0)),
        ({(128, 2.0): SLOW, (256, 2.0): FAST}, (256, 2.0)),
        ({(128, 2.0): FAST, (256, 2.0): FLAT}, (128, 2.0)),
        ({(128, 2.0): FLAT, (64, 2.0): FAST}, (64, 2.0)),
        ({(128, 2.0): FAST, (128, 2.8): FAST}, (128, 2.0)),  # the lower of equal rates
        ({(512, 2.0): FAST, (1024, 2.0): FAST}, (512, 2.0)),  # and the smaller of equal batches
        ({(32, 2.0): FAST}, (32, 2.0)),
        ({(128, 2.0): {"losses": (2.0, 9.0, 9.0)}}, (32, 1.0)),
        ({(128, 2.0): FLAT}, (32, 1.0)),
    ],
)
def test_the_pair_that_trained_fastest_is_advised(others, pair):
    advice = recommend_from(others)
    assert (advice.global_batch_size, advice.learning_rate.value) == pair
    assert advice.expected.is_measured == (pair != (32, 1.0))
    assert f"batch {pair[0]} at {pair[1]:g}" in advice.reasons[0].lower()


def test_one_start_that_diverged_refuses_a_pair():
    trials = make_pairs({(128, 2.0): FAST})
    trials[-1] = msgspec.structs.replace(trials[-1], diverged=True)
    record = make_record(trials=trials)
    assert recommend(record).basis == "stay"
    (pair,) = conclude_from(trials).of(RACE).pairs
    assert (pair.standing, pair.reason) == ("failed", "training diverged in 1 of 6 runs")


def test_a_rate_other_than_the_rules_is_marked():
    low, rule, high = (
        recommend_from({(128, rate): FAST}).learning_rate for rate in (2.0, 4 * 432 / 528, 4.6)
    )
    assert (low.capped_by, rule.capped_by, high.capped_by) == ("trial", None, None)
    assert (low.raised_by, rule.raised_by, high.raised_by) == (None, None, "trial")
    assert low.proposed == rule.value == high.proposed


@pytest.mark.parametrize(
    ("losses", "words"),
    [(FLAT, "the loss did not fall in 3 of 3 runs"), ((2.0, 30.0), "diverged in 3 of 3 runs")],
)
def test_a_base_pair_that_does_not_train_is_told_and_no_rate_is_printed(losses, words):
    trials = make_branches(32, 1.0, losses) + make_branches(128, 2.0, FAST)
    advice = recommend(make_record(trials=trials))
    assert (advice.basis, advice.global_batch_size) == ("stay", 32)
    assert advice.learning_rate.value is None
    assert words in advice.learning_rate.reason
    assert words in advice.warnings[-1]
    assert "Check the base rate" in advice.warnings[-1]


def test_the_settings_of_the_trial_are_in_the_snippet_and_multiply_the_own():
    facts = msgspec.structs.replace(FACTS, optimizer=ADAMW)
    settings = {"losses": FAST, "beta2": 0.996, "weight_decay": 0.02}
    advice = recommend_from({(128, 2e-3): settings}, (32, 1e-3), facts)
    assert advice.optimizer_changes.beta2 == 0.996
    assert 'group["lr"] *= 2\n' in advice.snippet
    assert 'group["betas"] = (group["betas"][0], 0.996)' in advice.snippet
    assert 'group["weight_decay"] *= 2\n' in advice.snippet
    assert "warmup" not in advice.snippet  # the trial, which passed, had none
    assert "torch.optim" not in advice.snippet


def test_the_own_batch_keeps_all_other_settings():
    facts = msgspec.structs.replace(FACTS, optimizer=ADAMW)
    advice = recommend_from({(128, 2e-3): SLOW}, (32, 1e-3), facts)
    assert advice.optimizer_changes == OptimizerChanges()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"has_dataset": False}, "no make_dataset"),
        ({"optimizer": None, "is_step_only": True}, "make_step"),
        ({"is_step_only": True, "has_dataset": False}, "make_step"),
        ({"optimizer": OptimizerFacts(name="Rprop")}, "no learning rate"),
    ],
)
def test_without_a_race_the_reason_says_what_is_missing(changes, words):
    facts = msgspec.structs.replace(FACTS, **changes)
    advice = recommend(make_record(facts))
    assert (advice.basis, advice.global_batch_size) == ("untried", 32)
    assert words in advice.learning_rate.reason
    assert words in advice.reasons[0]
    assert words in advice.warnings[-1]


def test_without_noise_and_trial_nothing_but_the_own_batch_is_named():
    facts = msgspec.structs.replace(FACTS, has_dataset=False)
    advice = recommend(make_record(facts), noise=UNKNOWN_NOISE)
    assert (advice.global_batch_size, advice.learning_rate.value) == (32, 1.0)
    assert advice.reasons[1:3] == (
        (
            "Batch 64 is 38 % faster per sample in your loop; how many more samples it needs is "
            "not known."
        ),
        "The noise scale is not known: there is no make_dataset.",
    )
    assert advice.expected.time_ratio is None


def test_without_a_batch_of_ones_own_nothing_is_advised_before_a_rate_was_found():
    facts = msgspec.structs.replace(FACTS, base_batch_size=None)
    assert recommend(make_record(facts)) is None


@pytest.mark.parametrize(
    ("limited_by", "largest", "factor", "words"),
    [
        ("memory", 1024, "memory", "Memory ends the batch at 1,024"),
        ("dataset", 1024, "dataset", "The dataset ends the batch at 1,024"),
        ("kernel", 1024, "kernel", "A kernel of the model takes no batch much larger than 1,024"),
        ("cap", 1024, "user", "The largest batch allowed ends the search at 1,024"),
        ("model", 1024, "model", "What the model runs ends the search at 1,024"),
        ("budget", 1024, "time", "The time ends the search at 1,024"),
        ("memory", 2000, "time", "The time ends the search at 1,024"),
    ],
)
def test_the_largest_batch_says_what_ends_the_search(limited_by, largest, factor, words):
    memory = make_memory(largest, limited_by=limited_by)
    advice = recommend_from({(1024, 8.0): FAST}, memory=memory)
    assert (advice.global_batch_size, advice.limiting_factor) == (1024, factor)
    assert advice.reasons[1].startswith(words)
    assert any("were not timed" in each for each in advice.warnings) == (largest == 2000)


def test_what_needs_more_memory_says_how_much():
    throughput = make_throughput(saturation=LIMITED)
    advice = recommend_from({(1024, 8.0): FAST}, throughput=throughput)
    assert advice.reasons[1] == (
        "Memory ends the batch at 1,024; by the fitted law larger ones would be faster up to about "
        "760."
    )


def test_where_speed_ends_before_memory_speed_is_the_limit():
    throughput = make_throughput((16, 32, 64, 128, 256, 4096, 8192))
    advice = recommend_from({(4096, 8.0): FAST}, memory=make_memory(8192), throughput=throughput)
    assert advice.limiting_factor == "throughput"
    assert advice.reasons[1].startswith("Beyond 4,096 samples a step speed no longer pays")


def test_a_larger_batch_that_the_law_favours_is_said_to_be_unproven():
    (reason,) = [each for each in recommend().reasons if "Batch 64 is" in each]
    assert reason.endswith(
        "by the noise needs only 7.4 % more of them, but this run did not show that it trains "
        "faster."
    )


@pytest.mark.parametrize(
    ("scales", "words"),
    [
        (
            [20.0, 40.0, 80.0, 160.0, 320.0, 640.0],
            "batch 256 for 10 times as long and 512 for 100 times as long",
        ),
        ([400.0] * 6, "batch 128 for 10 times and 100 times as long"),
        ([20.0, 30.0, 10.0, 40.0, 20.0, 30.0], "batch 32. --train-steps"),  # no clear trend
    ],
)
def test_a_longer_training_is_told_by_the_trend_of_the_noise(scales, words):
    noise = msgspec.structs.replace(make_course(scales), batch_size=32)
    reasons = recommend_from({(128, 2.0): FAST}, noise=noise).reasons
    assert words in next(each for each in reasons if each.startswith("The times hold"))


def test_an_open_noise_scale_is_a_bound():
    advice = recommend(noise=make_noise(None, 1e6, None))
    assert any("The noise scale is at least 1,000,000 samples: by it" in r for r in advice.reasons)


def test_accumulation_comes_with_its_reason_and_its_loop():
    facts = msgspec.structs.replace(FACTS, base_batch_size=128)
    parts = {"memory": make_memory(64), "throughput": make_throughput((16, 32, 64), LIMITED)}
    advice = recommend(make_record(facts), **parts)
    assert (advice.micro_batch_size, advice.gradient_accumulation_steps) == (64, 2)
    assert "Batch 128 is made of 2 micro-batches of 64, which fit." in advice.reasons
    assert "(loss_fn(model, batch) / 2).backward()" in advice.snippet
    summed = make_record(msgspec.structs.replace(facts, loss_reduction="sum"))
    assert "    loss_fn(model, batch).backward()" in recommend(summed, **parts).snippet


@pytest.mark.parametrize(
    "changes",
    [
        {"loss_reduction": "coupled"},
        {"is_step_only": True},
        {"optimizer": OptimizerFacts(name="LBFGS", learning_rate=1.0, needs_closure=True)},
    ],
)
def test_a_base_batch_that_fits_in_no_way_has_nothing_in_its_place(changes):
    throughput = make_throughput((16, 32, 64), LIMITED, optimizer_s=0.05)
    facts = msgspec.structs.replace(FACTS, base_batch_size=128, **changes)
    assert recommend(make_record(facts), make_memory(64), throughput) is None


def test_a_batch_that_is_large_for_its_dataset_is_warned_of():
    facts = msgspec.structs.replace(FACTS, dataset_size=1_797)
    advice = recommend_from({(128, 2.0): FAST}, facts=facts)
    assert advice.warnings[0].startswith(
        "An epoch of 1,797 samples has only 15 steps at batch 128."
    )


@given(
    st.floats(1.0, 1e7),
    st.floats(1.0, 100.0),
    st.booleans(),
    st.sampled_from([1, 32, 64, 4096]),
    st.sampled_from([None, 40, 5_000]),
    st.sampled_from(["SGD", "AdamW", "LBFGS", "Lion"]),
    st.sampled_from([SATURATED, LIMITED]),
    st.booleans(),
    st.dictionaries(
        st.tuples(st.sampled_from([16, 32, 64, 1024]), st.sampled_from([5e-4, 2e-3])),
        st.sampled_from([FAST, SLOW, FLAT, (2.0, 9.0)]),
        max_size=3,
    ),
)
def test_every_warning_ends_in_an_instruction(
    scale, factor, is_open, base, dataset_size, name, saturation, has_dataset, others
):
    facts = msgspec.structs.replace(
        FACTS,
        base_batch_size=base,
        dataset_size=dataset_size,
        has_dataset=has_dataset,
        optimizer=msgspec.structs.replace(ADAMW, name=name),
    )
    noise = make_noise(scale, scale / factor, None if is_open else scale * factor)
    advice = recommend(
        make_record(facts, make_pairs(others, (base, 1e-3)) if has_dataset else ()),
        make_memory(verified=has_dataset),
        make_throughput(saturation=saturation),
        noise if has_dataset else UNKNOWN_NOISE,
    )
    if advice is None:
        assert base not in {32, 64} or (dataset_size or base) < base
        return
    for warning in advice.warnings:
        instruction = warning.rstrip(".").rpartition(". ")[2]
        assert instruction.split()[0] in INSTRUCTIONS
        assert warning.endswith(".")
    assert advice.micro_batch_size <= 1024
    assert "training loss" in advice.reasons[-1]
    assert all(each.endswith(".") for each in advice.reasons)
    ast.parse(advice.snippet)


def test_nothing_is_recommended_without_its_measurements():
    assert propose(make_record(None), None, None, None) is None
    assert propose(make_record(), make_memory(), None, None) is None
    assert recommend(throughput=make_throughput(())) is None
    assert recommend(throughput=make_throughput((64, 128))) is None  # the own batch is missing


def test_everything_is_derived_from_the_record_alone():
    facts = msgspec.structs.replace(FACTS, has_dataset=False)
    derived = derive(make_record(facts, probes=make_probes()))
    assert derived.memory.max_micro_batch_size == 1024
    assert derived.memory.verified
    assert derived.throughput.saturation.status == "saturated"
    assert derived.throughput.points[-1].peak_bytes == 1024
    assert derived.noise.status == "not_estimated"
    advice = derived.recommendation
    assert (advice.basis, advice.global_batch_size) == ("untried", 32)
    assert derived.race.reason in advice.reasons[0]
    assert any("Add make_dataset" in each for each in advice.warnings)


def test_parts_that_were_not_reached_are_none():
    assert derive(make_record(None)).memory is None
    fresh = derive(make_record())
    assert (fresh.memory, fresh.throughput, fresh.recommendation) == (None, None, None)
    only_memory = derive(make_record(probes=make_probes(sessions=0)))
    assert only_memory.memory is not None
    assert only_memory.throughput is None
    no_limit = msgspec.structs.replace(
        make_record(),
        command=Command(
            argv=(),
            seed=0,
            precision="fp32",
            compile=False,
            limits=Limits(max_micro_batch_size=1024),
        ),
        probes=tuple(make_probes()),
    )
    assert derive(no_limit).memory.limited_by == "cap"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (1.5, "1.5"), (12_345.0, "12300"), (53.2000001, "53.2"), (2e-5, "2e-05")],
)
def test_figures_have_three_significant_digits(value, text):
    assert format_figure(value) == text


def test_percents_have_two_significant_digits_below_a_hundred():
    assert [format_percent(x) for x in (0.0123, 0.456, 1.234)] == ["1.2 %", "46 %", "123 %"]
