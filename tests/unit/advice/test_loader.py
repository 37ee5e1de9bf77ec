import ast

import msgspec

from advisor.loader.tell import describe_loader
from tests.given import Derived
from tests.unit.loader.timings import make_loop_timing, make_timing, run
from tests.unit.samples import (
    FAST,
    FIXED_S,
    NOISE,
    PER_SAMPLE_S,
    derive,
    make_memory,
    make_pairs,
    make_record,
    make_throughput,
    propose,
)


def record_with(timings, *, no_loader=False):
    trials = make_pairs({(16, 0.7): FAST})
    record = make_record(trials=trials, no_loader=no_loader)
    rounds = [(FIXED_S + size * PER_SAMPLE_S,) * 2 for size in (16, 32)]
    return msgspec.structs.replace(
        record,
        loader_timings=tuple(timings),
        loop_timings=(make_loop_timing((16, 32), rounds),),
    )


def recommend(timings, **limits):
    return propose(record_with(timings, **limits), make_memory(), make_throughput(), NOISE)


def derive_loader(timings):
    return derive(record_with(timings)).loader


def the_warning(timings):
    (warning,) = [each for each in recommend(timings).warnings if "loader is the limit" in each]
    return warning.partition(". ")[2]


def test_a_run_without_the_stage_says_nothing_of_the_loader():
    assert Derived().loader is None
    assert derive_loader([]) is None
    assert "num_workers" not in recommend([]).snippet


def test_a_loader_that_keeps_up_changes_nothing():
    timings = run(load_s=0.001, step_s=0.1)
    advice, in_memory = recommend(timings), recommend([], no_loader=True)
    assert (advice.global_batch_size, advice.snippet) == (16, in_memory.snippet)
    assert (advice.warnings, advice.learning_rate) == (in_memory.warnings, in_memory.learning_rate)
    assert describe_loader(derive_loader(timings)).startswith("keeps up with training; ")


def test_workers_of_the_own_loader_that_keep_up_stay_in_the_snippet():
    advice = recommend(run(4, load_s=0.1, step_s=0.1))
    assert "num_workers=4" in advice.snippet
    assert advice.warnings == recommend([]).warnings


def test_workers_that_were_seen_to_suffice_are_advised():
    timings = run(load_s=0.25, step_s=0.1)
    advice = recommend(timings)
    ast.parse(advice.snippet)
    assert "num_workers=3, persistent_workers=True" in advice.snippet
    (warning,) = [each for each in advice.warnings if "num_workers" in each]
    assert warning == (
        "The loader is the limit: with 0 workers batch 16 trains at 45.7 samples/s, at 160 if it "
        "did not wait for data. Set num_workers=3 and persistent_workers=True in the DataLoader, "
        "which ran at 160 samples/s."
    )
    text = describe_loader(derive_loader(timings))
    assert text.startswith("is the limit: training waits for its data; training without it 160 ")
    assert text.endswith("3 workers would suffice, as measured")
    assert "with 0 workers the loader alone 64.0 ± 0.0, training 45.7 ± 0.0, waiting 71.4 %" in text


def test_workers_that_were_not_run_are_only_to_be_tried():
    timings = run(load_s=5.0, step_s=0.1, cores=8)
    warning = the_warning(timings)
    assert "Set num_workers=16" in warning
    assert "try num_workers=50" in warning
    assert "it was not run, and with 8 processors here" in warning
    assert "num_workers=16" in recommend(timings).snippet
    assert "not measured on 8 processors" in describe_loader(derive_loader(timings))


def test_a_pair_that_stays_still_gets_its_workers():
    record = msgspec.structs.replace(record_with(run(load_s=0.25, step_s=0.1)), trials=())
    advice = propose(record, make_memory(), make_throughput(), NOISE)
    assert advice.basis == "untried"
    assert "num_workers=3" in advice.snippet
    assert "group" not in advice.snippet
    record = msgspec.structs.replace(record_with(run(4, load_s=0.1, step_s=0.1)), trials=())
    assert propose(record, make_memory(), make_throughput(), NOISE).snippet == ""


def test_hundreds_of_workers_are_no_advice():
    timings = run(load_s=50.0, step_s=0.1)
    assert derive_loader(timings).workers_needed == 500
    assert "try" not in the_warning(timings)


def test_without_a_measured_number_there_is_none_in_the_snippet():
    timings = [
        make_timing(0, load_s=0.3, step_s=0.1, is_own=True),
        msgspec.structs.replace(
            make_timing(3, load_s=0.3, step_s=0.1), together_samples_per_s=(), message="bus error"
        ),
    ]
    assert "Raise --budget" in the_warning(timings)
    assert "num_workers" not in recommend(timings).snippet
    assert describe_loader(derive_loader(timings)).endswith("; bus error")


def test_where_workers_are_no_help_the_sample_is_to_be_made_cheaper():
    timings = run(load_s=0.1, step_s=0.03, handing_s=0.1)
    assert the_warning(timings).startswith("Make a sample cheaper to load")
    assert "num_workers" not in recommend(timings).snippet
    assert "more workers load no faster here" in describe_loader(derive_loader(timings))


def test_a_stream_must_be_divided_among_its_workers():
    timings = [
        msgspec.structs.replace(each, is_iterable=True) for each in run(load_s=0.25, step_s=0.1)
    ]
    assert "get_worker_info()" in the_warning(timings)


def test_a_measured_number_that_still_waits_is_told():
    timings = run(load_s=0.19, step_s=0.1)
    slow = msgspec.structs.replace(
        timings[1],
        together_samples_per_s=tuple(0.8 * r for r in timings[1].together_samples_per_s),
        waiting_fractions=(0.2,) * 4,
    )
    text = describe_loader(derive_loader([timings[0], slow]))
    assert text.endswith(
        "2 workers would suffice by the rate of one, 84.2 samples/s, but training still waited"
    )
