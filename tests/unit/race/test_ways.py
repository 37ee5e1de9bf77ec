"""How batches are made, and how long their steps take."""

import msgspec
import pytest

from advisor.memory.data import MemoryConclusion
from advisor.race.loop_time import LOOP_TIMES
from advisor.race.ways import WAYS, find_way
from advisor.training.data import OptimizerFacts
from tests.unit.loader.timings import make_timing
from tests.unit.samples import (
    FACTS,
    FIXED_S,
    PER_SAMPLE_S,
    conclude,
    make_branches,
    make_memory,
    make_record,
    make_soak,
    make_throughput,
)


def list_ways(facts=FACTS, *, memory=None, throughput=None, soaks=(), trials=(), **limits):
    record = make_record(facts, trials, **limits)
    record = msgspec.structs.replace(record, soaks=tuple(soaks))
    parts = {"memory": memory or make_memory(), "throughput": throughput or make_throughput()}
    return conclude(record, **parts).of(WAYS)


def splits(ways):
    return {
        way.global_batch_size: (way.micro_batch_size, way.gradient_accumulation_steps)
        for way in ways
    }


def test_batches_are_those_that_were_timed_and_fit_by_size():
    ways = list_ways(memory=make_memory(300))
    assert [way.global_batch_size for way in ways] == [16, 32, 64, 128, 256]
    for way in ways:
        step_s = FIXED_S + PER_SAMPLE_S * way.global_batch_size
        assert way.step_s == pytest.approx(step_s)


def test_doublings_between_sizes_that_were_timed_are_interpolated():
    ways = list_ways(throughput=make_throughput((16, 32, 512)))
    assert [way.global_batch_size for way in ways] == [16, 32, 64, 128, 256, 512]
    assert find_way(ways, 128).step_s == pytest.approx(FIXED_S + PER_SAMPLE_S * 128)


def test_a_base_batch_that_does_not_fit_is_accumulated():
    facts = msgspec.structs.replace(FACTS, base_batch_size=192)
    throughput = make_throughput((16, 32, 64), optimizer_s=0.05)
    way = find_way(list_ways(facts, memory=make_memory(64), throughput=throughput), 192)
    assert (way.micro_batch_size, way.gradient_accumulation_steps) == (64, 3)
    assert way.step_s == pytest.approx(3 * (FIXED_S + PER_SAMPLE_S * 64) + 0.05)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss_reduction": "coupled"},
        {"is_step_only": True},
        {"optimizer": OptimizerFacts(name="LBFGS", learning_rate=1.0, needs_closure=True)},
        {"optimizer": None},
    ],
)
def test_a_step_that_cannot_be_split_is_never_accumulated(changes):
    facts = msgspec.structs.replace(FACTS, base_batch_size=192, **changes)
    throughput = make_throughput((16, 32, 64), optimizer_s=0.05)
    ways = list_ways(facts, memory=make_memory(64), throughput=throughput, global_batch_size=128)
    assert {way.gradient_accumulation_steps for way in ways} == {1}
    assert [way.global_batch_size for way in ways] == [16, 32, 64]


def test_accumulation_beyond_the_largest_is_there_only_where_it_can_pay():
    cheap, dear = (
        list_ways(memory=make_memory(64), throughput=make_throughput((16, 32, 64), optimizer_s=s))
        for s in (0.0001, 0.05)
    )
    assert max(way.gradient_accumulation_steps for way in cheap) == 1
    assert splits(dear)[2048] == (64, 32)
    assert splits(dear)[128] == (64, 2)


def test_a_batch_that_ran_out_of_memory_in_a_soak_is_split():
    trained = make_branches(128, 2.0)
    ways = list_ways(soaks=[make_soak(128, "oom", steps=4)], trials=trained)
    assert splits(ways)[128] == (64, 2)
    assert splits(ways)[256] == (64, 4)
    assert max(way.micro_batch_size for way in ways) < 128
    coupled = msgspec.structs.replace(FACTS, loss_reduction="coupled")
    ways = list_ways(coupled, soaks=[make_soak(128, "oom", steps=4)], trials=trained)
    assert [way.global_batch_size for way in ways] == [16, 32, 64]


def test_a_given_batch_is_there_where_it_can_be_made():
    assert splits(list_ways(global_batch_size=96))[96] == (96, 1)
    throughput = make_throughput((16, 32, 64))
    parts = {"memory": make_memory(64), "throughput": throughput}
    assert splits(list_ways(global_batch_size=96, **parts))[96] == (48, 2)
    assert 97 not in splits(list_ways(global_batch_size=97, **parts))


def test_no_batch_is_larger_than_the_dataset():
    facts = msgspec.structs.replace(FACTS, dataset_size=100)
    ways = list_ways(facts, global_batch_size=128)
    assert [way.global_batch_size for way in ways] == [16, 32, 64]


def test_only_multiples_are_made():
    facts = msgspec.structs.replace(FACTS, base_batch_size=48)
    assert 48 not in splits(list_ways(facts, batch_multiple=32))


def test_without_a_measurement_there_is_no_way():
    assert conclude(make_record(), throughput=None, memory=None).of(WAYS) == ()
    assert list_ways(memory=make_memory(8)) == ()
    assert (
        list_ways(
            memory=MemoryConclusion(
                **{
                    **dict.fromkeys(
                        (
                            "max_micro_batch_size",
                            "fixed_bytes",
                            "bytes_per_sample",
                            "capacity_bytes",
                            "headroom_bytes",
                            "smallest_failed",
                        )
                    ),
                    "verified": False,
                    "limited_by": "budget",
                    "probes": 0,
                    "ooms": 0,
                }
            )
        )
        != ()
    )


def loop_times(*timings, **limits):
    record = make_record(no_loader=False, **limits)
    record = msgspec.structs.replace(record, loader_timings=timings)
    return conclude(record, throughput=make_throughput()).of(LOOP_TIMES)


def load(load_s, workers=0):
    """A loader that takes so long for 16 samples, beside steps of the time they have there."""
    step_s = FIXED_S + 16 * PER_SAMPLE_S
    return make_timing(workers, load_s=load_s, step_s=step_s, is_own=True)


def test_without_workers_loading_is_added_to_a_step():
    times = loop_times(load(0.016))
    step_s = FIXED_S + 64 * PER_SAMPLE_S
    assert times.estimate_s(64) == pytest.approx(step_s + 0.064, rel=0.01)
    assert times.estimate_s(64, 2) == pytest.approx(2 * (step_s + 0.064), rel=0.01)


def test_with_workers_the_slower_of_loading_and_step_counts():
    slow, fast = loop_times(load(0.4, workers=4)), loop_times(load(0.001, workers=4))
    assert slow.estimate_s(64) == pytest.approx(0.4, rel=0.05)
    assert fast.estimate_s(64) == pytest.approx(FIXED_S + 64 * PER_SAMPLE_S, rel=0.05)


def test_what_an_epoch_ends_with_is_spread_over_its_samples():
    times = loop_times(epoch_overhead_s=50.0)
    assert times.estimate_s(64) == pytest.approx(FIXED_S + 64 * PER_SAMPLE_S + 64 * 50 / 50_000)


def test_a_loader_that_was_not_timed_makes_a_ratio_uncertain_and_one_that_is_not_there_does_not():
    unknown, none = (
        loop_times(),
        conclude(make_record(), throughput=make_throughput()).of(LOOP_TIMES),
    )
    assert unknown.estimate_s(64) == none.estimate_s(64)
    assert unknown.estimate_error((64, 1), (32, 1)) > 0.2
    assert none.estimate_error((64, 1), (32, 1)) < 0.05
    assert unknown.estimate_error((64, 1), (64, 1)) == 0.0
