"""How batches are made, and how long their steps take."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.memory.data import MemoryConclusion
from advisor.race.loop_time import LOOP_TIMES
from advisor.race.ways import WAYS, find_way
from advisor.training.data import OptimizerFacts
from tests.unit.loader.timings import make_loop_timing
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


def test_a_batch_that_failed_a_soak_is_not_made_of_crumbs():
    soaked = {"soaks": [make_soak(122, "oom", steps=4)], "memory": make_memory(122)}
    sizes = (16, 32, 64, 122)  # 122 = 2 · 61
    assert splits(list_ways(throughput=make_throughput(sizes), **soaked))[122] == (61, 2)
    soaked = {"soaks": [make_soak(127, "oom", steps=4)], "memory": make_memory(127)}
    ways = list_ways(throughput=make_throughput((16, 32, 64, 127)), **soaked)
    assert 127 not in splits(ways)  # a prime
    assert max(splits(ways)) >= 64


def test_parts_are_of_a_size_that_fits_beside_the_gradients():
    memory = msgspec.structs.replace(make_memory(128), largest_accumulating=40)
    ways = splits(list_ways(global_batch_size=256, memory=memory))
    assert ways[128] == (128, 1)
    assert ways[256] == (32, 8)


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
    record = msgspec.structs.replace(record, loop_timings=timings)
    return conclude(record, throughput=make_throughput()).of(LOOP_TIMES)


def bare_s(size):
    return FIXED_S + size * PER_SAMPLE_S


def time_sizes(sizes, loop_s, *, factor=1.0, **more):
    """A session on a machine slower by a factor than that which timed the steps alone."""
    rounds = [[factor * loop_s(size) * jitter for jitter in (1.0, 1.01, 0.99)] for size in sizes]
    return make_loop_timing(sizes, rounds, **more)


def test_a_step_takes_what_it_took_in_the_loop_and_between_sizes_what_lies_between():
    def loop_s(size):
        return bare_s(size) + 0.001 * size + 0.002

    times = loop_times(time_sizes((16, 64, 256), loop_s))
    for size in (16, 64, 256):
        assert times.estimate_s(size) == pytest.approx(loop_s(size))
    assert times.estimate_s(32) == pytest.approx(loop_s(32), rel=0.05)
    assert times.estimate_s(128) == pytest.approx(loop_s(128), rel=0.05)
    # Outside the sizes timed what comes on top goes with the samples.
    assert times.estimate_s(512) == pytest.approx(loop_s(512), rel=0.02)
    # Each micro-batch of an accumulated step is loaded; the optimizer steps once.
    assert times.estimate_s(64, 2) == pytest.approx(2 * loop_s(64), rel=0.01)


@given(
    factors=st.lists(st.floats(0.5, 3.0), min_size=2, max_size=3),
    others=st.lists(st.sampled_from([16, 64, 128, 256]), min_size=2, max_size=3, unique=True),
)
def test_ratios_are_those_of_the_sessions_however_slow_each_machine_was(factors, others):
    def loop_s(size):
        return bare_s(size) + 0.004 * size

    sessions = [time_sizes((32, size), loop_s, factor=f) for size, f in zip(others, factors)]
    times = loop_times(*sessions)
    for size, _ in zip(others, factors):
        ratio = times.estimate_s(size) / times.estimate_s(32)
        assert ratio == pytest.approx(loop_s(size) / loop_s(32), rel=1e-6)
        assert times.estimate_error((size, 1), (32, 1)) < 0.03


def test_the_error_is_that_of_paired_rounds_and_more_where_a_size_was_not_timed():
    rounds = [[0.01, 0.02, 0.03, 0.02], [0.02, 0.04, 0.06, 0.04]]  # a neighbour slows both alike
    paired = loop_times(make_loop_timing((32, 64), rounds))
    assert paired.is_known((32, 1), (64, 1))
    assert not paired.is_known((32, 1), (128, 1))
    assert paired.estimate_error((32, 1), (64, 1)) < 0.03
    assert paired.estimate_error((32, 1), (128, 1)) >= 0.03
    rounds[1] = rounds[1][1:] + rounds[1][:1]
    apart = loop_times(make_loop_timing((32, 64), rounds))
    assert apart.estimate_error((32, 1), (64, 1)) > 0.2
    assert not apart.is_known((32, 1), (64, 1))


def test_what_a_pass_costs_is_shared_by_its_samples():
    times = loop_times(time_sizes((16, 64), bare_s, pass_s=25.0), epoch_overhead_s=25.0)
    assert times.estimate_s(64) == pytest.approx(bare_s(64) + 64 * 50.0 / 50_000)


def test_a_trial_fetches_its_samples_itself():
    times = loop_times(time_sizes((16, 64), bare_s, fetch_s=0.16))
    assert times.estimate_alone_s(64, 2) == pytest.approx(2 * bare_s(64) + 128 * 0.01, rel=0.01)


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
