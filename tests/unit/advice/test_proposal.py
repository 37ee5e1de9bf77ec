import ast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.engine.record import Command
from advisor.engine.spec import Limits
from advisor.throughput.data import Saturation
from advisor.training.data import OptimizerFacts
from advisor.units import format_figure, format_percent
from tests.unit.samples import (
    ADAMW,
    FACTS,
    FIXED_S,
    LIMITED,
    PER_SAMPLE_S,
    SATURATED,
    UNKNOWN_NOISE,
    derive,
    make_branches,
    make_memory,
    make_noise,
    make_probes,
    make_record,
    make_throughput,
    propose,
    recommend,
)

INSTRUCTIONS = ("Add", "Set", "Raise", "Compare", "Count", "Tune", "Stay", "Check", "Give")


def test_the_reasons_of_a_small_record_read_like_this():
    advice = recommend()
    assert (advice.global_batch_size, advice.interval.low, advice.interval.high) == (128, 128, 256)
    assert advice.limiting_factor == "noise"
    assert advice.reasons == (
        (
            "Beyond 128 samples a step the noise no longer pays: batch 512 is 22 % faster per "
            "sample, but needs 73 % more samples."
        ),
        (
            "The noise scale is 400 samples (300 to 550), which puts the least time to train at "
            "batch 128."
        ),
        (
            "Batches from 128 to 256 come within 5 % of the least time somewhere in the noise "
            "interval; 128 is the smallest that does so at the noise scale, which needs the "
            "least memory."
        ),
        "Training is predicted to take 0.713 times as long as with the base batch of 32.",
        (
            "All of this is about training loss, not about how the model generalises: at equal "
            "training loss small batches often do better (Keskar et al. 2016), while short 1-cycle "
            "schedules at high rates may favour large ones (Smith 2018)."
        ),
    )
    assert advice.warnings == ()
    assert advice.snippet == (
        "loader = torch.utils.data.DataLoader("
        "dataset, batch_size=128, shuffle=True, drop_last=True)\n"
    )


def test_expected_time_is_that_of_the_law():
    advice = recommend()
    time = {b: (1 + 400 / b) * (FIXED_S + PER_SAMPLE_S * b) for b in (32, 128)}
    assert advice.expected.time_ratio == pytest.approx(time[128] / time[32])
    assert advice.expected.cost_ratio == advice.expected.time_ratio


def test_no_rate_is_printed_before_a_trial_ran_it():
    rate = recommend().learning_rate
    assert rate.value is None
    assert rate.proposed == pytest.approx(4 * 432 / 528)
    assert "no rate is printed that has not been run" in rate.reason


def test_a_rate_that_passed_is_printed():
    proposed = recommend().learning_rate.proposed
    advice = recommend(make_record(trials=make_branches(32, 1.0) + make_branches(128, proposed)))
    assert advice.learning_rate.value == proposed
    assert advice.learning_rate.capped_by is None
    assert f"torch.optim.SGD(model.parameters(), lr={proposed:.4g}, momentum=0.9)" in advice.snippet


@pytest.mark.parametrize(("base_seeds", "tried_seeds"), [(2, 3), (3, 2)])
def test_a_trial_that_was_cut_short_asks_for_time_and_blames_no_rate(base_seeds, tried_seeds):
    proposed = recommend().learning_rate.proposed
    base = make_branches(32, 1.0, seeds=base_seeds)
    advice = recommend(make_record(trials=base + make_branches(128, proposed, seeds=tried_seeds)))
    assert advice.learning_rate.value is None
    assert advice.learning_rate.reason.startswith("the trial was cut short")
    (warning,) = advice.warnings
    assert "Raise --budget" in warning
    assert "base rate" not in warning


def test_a_lower_rate_that_passed_is_capped_by_the_trial():
    proposed = recommend().learning_rate.proposed
    trials = (
        make_branches(32, 1.0)
        + make_branches(128, proposed, (2.0,) * 5)
        + make_branches(128, proposed / 2**0.5)
    )
    rate = recommend(make_record(trials=trials)).learning_rate
    assert rate.value == proposed / 2**0.5
    assert rate.capped_by == "trial"
    assert "at 3.27 it stalled from 3 of 3 starts" in rate.reason


def test_where_no_rate_passed_none_is_printed_and_nothing_else_changes():
    # A base batch that was not timed cannot stand in.
    facts = msgspec.structs.replace(FACTS, optimizer=ADAMW, base_batch_size=48)
    before = recommend(make_record(facts))
    changes = before.optimizer_changes
    assert changes.beta2 is not None
    tried = make_branches(
        128, 1e-3, (2.0,) * 5, beta2=changes.beta2, weight_decay=changes.weight_decay
    )
    advice = recommend(make_record(facts, make_branches(48, 1e-3) + tried))
    assert advice.learning_rate.value is None
    assert "none of the rates tried (0.001) trained" in advice.learning_rate.reason
    assert advice.optimizer_changes.beta2 is None
    assert advice.warnings[-1].endswith("Stay at the base batch, or tune the rate by hand.")


def test_where_no_rate_passed_at_the_planned_batch_the_own_pair_stands():
    trials = make_branches(32, 1.0) + make_branches(128, 2.0, (2.0,) * 5)
    advice = recommend(make_record(trials=trials))
    assert (advice.global_batch_size, advice.learning_rate.value) == (32, 1.0)
    assert "batch 128, to which noise and speed lead, failed" in advice.reasons[0]
    assert advice.interval.low <= 32


#: Loss against the share of a branch: it is where the base pair ends after 0.4 of it.
FAST = (2.0, 0.8, 0.5, 0.45, 0.4, 0.4)


@pytest.mark.parametrize(
    ("trials", "batch"),
    [
        ({128: FAST}, 128),
        ({128: (2.0, 1.9, 1.5, 1.0, 0.6, 0.5), 256: FAST}, 256),
        ({128: FAST, 256: (2.0,) * 6}, 128),
        ({128: (2.0,) * 6, 64: FAST}, 64),
        ({256: FAST}, 128),  # where the planned batch was not tried, others say nothing of it
    ],
)
def test_the_batch_that_trained_fastest_is_advised(trials, batch):
    branches = make_branches(32, 1.0)
    for size, losses in trials.items():
        branches += make_branches(size, 2.0, losses)
    advice = recommend(make_record(trials=branches))
    assert advice.global_batch_size == batch
    if batch in trials:
        assert advice.learning_rate.value == 2.0
        assert advice.expected.trial_time_ratio < 1.0
        assert f"batch {batch}" in " ".join(advice.reasons)


def test_a_time_that_was_not_seen_is_not_told():
    near = (2.0, 0.9, 0.7, 0.6, 0.55, 0.55)  # as good as the base's end by the margin, never there
    advice = recommend(make_record(trials=make_branches(32, 1.0) + make_branches(128, 2.0, near)))
    assert (advice.global_batch_size, advice.learning_rate.value) == (128, 2.0)
    assert advice.expected.trial_time_ratio is None
    assert not any("In the trial" in each for each in advice.reasons)


def test_an_advised_size_that_was_not_timed_says_how_to_time_it():
    advice = recommend(throughput=make_throughput(sizes=(16, 32, 512, 1024)))
    assert advice.global_batch_size == 128
    (warning,) = [each for each in advice.warnings if "not timed itself" in each]
    assert warning.endswith("Give --global-batch-size 128 to time it.")


def test_branches_with_other_settings_do_not_count():
    facts = msgspec.structs.replace(FACTS, optimizer=ADAMW)
    proposed = recommend(make_record(facts)).learning_rate.proposed
    trials = make_branches(32, 1e-3) + make_branches(128, proposed)
    assert recommend(make_record(facts, trials)).learning_rate.value is None


def test_the_advised_settings_are_in_the_snippet():
    facts = msgspec.structs.replace(FACTS, optimizer=ADAMW)
    before = recommend(make_record(facts))
    changes, proposed = before.optimizer_changes, before.learning_rate.proposed
    tried = make_branches(128, proposed, beta2=changes.beta2, weight_decay=changes.weight_decay)
    advice = recommend(make_record(facts, make_branches(32, 1e-3) + tried))
    assert f"betas=(0.9, {changes.beta2:.6g}), weight_decay={changes.weight_decay:.4g}" in (
        advice.snippet
    )
    assert "warmup" not in advice.snippet  # the trial, which passed, had none


def test_a_base_pair_that_does_not_train_is_told():
    trials = make_branches(32, 1.0, (2.0,) * 5) + make_branches(128, 2.0)
    advice = recommend(make_record(trials=trials))
    assert advice.learning_rate.value is None
    assert "Check the base rate" in advice.warnings[-1]


def test_a_base_rate_that_is_too_low_is_told():
    proposed = recommend().learning_rate.proposed
    trials = make_branches(32, 1.0, (2.0, 1.9, 1.8, 1.7, 1.6)) + make_branches(128, proposed)
    assert "probably too low" in recommend(make_record(trials=trials)).warnings[-1]


@pytest.mark.parametrize(
    ("trials", "value", "words"),
    [
        (make_branches(128, 1.0), 1.0, "the base rate stands"),
        (make_branches(128, 1.0, (2.0,) * 5), None, "did not improve"),
        ((), None, "needs no scaling"),
    ],
)
def test_at_the_base_batch_the_base_rate_stands_once_it_was_run(trials, value, words):
    facts = msgspec.structs.replace(FACTS, base_batch_size=128)
    rate = recommend(make_record(facts, trials)).learning_rate
    assert rate.value == value
    assert words in rate.reason


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"has_dataset": False}, "no make_dataset"),
        ({"base_batch_size": None}, "BASE_BATCH_SIZE"),
        ({"optimizer": None, "is_step_only": True}, "make_step"),
    ],
)
def test_a_missing_rate_says_what_is_missing(changes, words):
    facts = msgspec.structs.replace(FACTS, **changes)
    rate = recommend(make_record(facts)).learning_rate
    assert rate.value is None
    assert words in rate.reason


def test_make_step_with_an_optimizer_has_no_trial():
    facts = msgspec.structs.replace(FACTS, is_step_only=True)
    assert "make_step" in recommend(make_record(facts)).learning_rate.reason


@pytest.mark.parametrize(
    ("saturation", "memory", "size", "factor", "interval"),
    [
        (SATURATED, make_memory(), 512, "throughput", (400, 640)),
        (LIMITED, make_memory(), 1024, "memory", (65, 1024)),
        (LIMITED, make_memory(limited_by="dataset"), 1024, "dataset", (65, 1024)),
        (LIMITED, make_memory(limited_by="cap"), 1024, "user", (65, 1024)),
        (LIMITED, make_memory(limited_by="budget", verified=False), 1024, "user", (65, 1024)),
        (LIMITED, make_memory(2_000), 1024, "user", (65, 1024)),
        (
            Saturation(batch_size=None, low=None, high=None, status="host_bound"),
            make_memory(),
            1024,
            "memory",
            (None, None),
        ),
        (
            Saturation(batch_size=None, low=None, high=None, status="inconclusive"),
            make_memory(),
            512,
            "throughput",
            (None, None),
        ),
    ],
)
def test_without_noise_the_hardware_alone_decides(saturation, memory, size, factor, interval):
    facts = msgspec.structs.replace(FACTS, has_dataset=False)
    advice = recommend(
        make_record(facts), memory, make_throughput(saturation=saturation), UNKNOWN_NOISE
    )
    assert advice.global_batch_size == size
    assert advice.limiting_factor == factor
    assert (advice.interval.low, advice.interval.high) == interval
    assert advice.reasons[1] == (
        "The noise scale is not known (there is no make_dataset), so speed alone decides."
    )
    assert advice.expected.time_ratio is None


def test_what_needs_more_memory_says_how_much():
    advice = recommend(None, make_memory(), make_throughput(saturation=LIMITED), UNKNOWN_NOISE)
    assert advice.reasons[0] == (
        "Memory ends the batch at 1024; by the fitted law larger ones would be faster up to about "
        "760."
    )


def test_noise_that_asks_for_more_than_fits_names_memory():
    throughput = make_throughput((16, 32, 64), LIMITED)
    advice = recommend(None, make_memory(64), throughput, make_noise(None, 1e6, None))
    assert (advice.global_batch_size, advice.limiting_factor) == (64, "memory")
    assert advice.interval.high == 64
    assert "at least 1000000 samples, its upper end unknown" in advice.reasons[1]
    assert any("lower bound" in each for each in advice.warnings)


def test_accumulation_comes_with_its_reason_and_its_loop():
    throughput = make_throughput((16, 32, 64), LIMITED, optimizer_s=0.05)
    advice = recommend(None, make_memory(64), throughput, make_noise(1e5, 9e4, 2e5))
    assert advice.gradient_accumulation_steps > 1
    assert any(each.startswith("Accumulating") for each in advice.reasons)
    assert f"/ {advice.gradient_accumulation_steps}).backward()" in advice.snippet
    summed = msgspec.structs.replace(FACTS, loss_reduction="sum")
    loop = recommend(
        make_record(summed), make_memory(64), throughput, make_noise(1e5, 9e4, 2e5)
    ).snippet
    assert "    loss_fn(model, batch).backward()" in loop


@pytest.mark.parametrize(
    "changes",
    [
        {"loss_reduction": "coupled"},
        {"is_step_only": True},
        {"optimizer": OptimizerFacts(name="LBFGS", learning_rate=1.0, needs_closure=True)},
    ],
)
def test_a_step_that_cannot_be_split_is_never_accumulated(changes):
    throughput = make_throughput((16, 32, 64), LIMITED, optimizer_s=0.05)
    facts = msgspec.structs.replace(FACTS, **changes)
    advice = recommend(make_record(facts), make_memory(64), throughput, make_noise(1e5, 9e4, 2e5))
    assert advice.gradient_accumulation_steps == 1


def test_a_batch_that_is_large_for_its_dataset_is_warned_of():
    facts = msgspec.structs.replace(FACTS, dataset_size=1_797)
    advice = recommend(make_record(facts))
    assert advice.warnings[0].startswith("An epoch of 1797 samples has only 15 steps at batch 128.")


@given(
    st.floats(1.0, 1e7),
    st.floats(1.0, 100.0),
    st.booleans(),
    st.sampled_from([None, 1, 32, 4096]),
    st.sampled_from([None, 40, 5_000]),
    st.sampled_from(["SGD", "AdamW", "LBFGS", "Lion"]),
    st.sampled_from([SATURATED, LIMITED]),
    st.booleans(),
)
def test_every_warning_ends_in_an_instruction(
    scale, factor, is_open, base, dataset_size, name, saturation, has_dataset
):
    facts = msgspec.structs.replace(
        FACTS,
        base_batch_size=base,
        dataset_size=dataset_size,
        has_dataset=has_dataset,
        optimizer=msgspec.structs.replace(ADAMW, name=name, is_default=name == "AdamW"),
    )
    noise = make_noise(scale, scale / factor, None if is_open else scale * factor)
    advice = recommend(
        make_record(facts),
        make_memory(verified=has_dataset),
        make_throughput(saturation=saturation),
        noise if has_dataset else UNKNOWN_NOISE,
    )
    for warning in advice.warnings:
        instruction = warning.rstrip(".").rpartition(". ")[2]
        assert instruction.split()[0] in INSTRUCTIONS
        assert warning.endswith(".")
    assert advice.micro_batch_size <= 1024
    assert "training loss" in advice.reasons[-1]
    assert all(each.endswith(".") for each in advice.reasons)
    ast.parse(advice.snippet)


@given(st.floats(1.0, 1e6), st.floats(1.0, 1e3))
def test_a_larger_noise_scale_never_advises_a_smaller_batch(scale, factor):
    sizes = [
        recommend(noise=make_noise(each, each / 2, each * 2)).global_batch_size
        for each in (scale, scale * factor)
    ]
    assert sizes == sorted(sizes)


def test_nothing_is_recommended_without_its_measurements():
    assert propose(make_record(None), None, None, None) is None
    assert propose(make_record(), make_memory(), None, None) is None
    assert recommend(throughput=make_throughput(())) is None


def test_everything_is_derived_from_the_record_alone():
    facts = msgspec.structs.replace(FACTS, has_dataset=False)
    derived = derive(make_record(facts, probes=make_probes()))
    assert derived.memory.max_micro_batch_size == 1024
    assert derived.memory.verified
    assert derived.throughput.saturation.status == "saturated"
    assert derived.throughput.points[-1].peak_bytes == 1024
    assert derived.noise.status == "not_estimated"
    advice = derived.recommendation
    assert advice.global_batch_size == derived.throughput.saturation.batch_size
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
