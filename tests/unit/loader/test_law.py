"""The law against loops that are simulated event by event."""

import heapq
import math
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.engine.spec import Limits
from advisor.loader.data import LoaderTiming
from advisor.loader.plan import add_epoch, conclude_loader, estimate_loop_step_s, list_sizes
from tests.unit.samples import FACTS

BASE, OTHER = 32, 256


def simulate(load_s, step_s, workers, handing_s=0.0, batches=400):
    """Return the seconds of a step of a loop whose workers have two batches each under way."""
    if workers == 0:
        return load_s + step_s
    free = [(0.0, worker) for worker in range(workers)]
    ready, now = [], 0.0
    asked = [0.0] * (2 * workers)
    for batch in range(batches):
        at, worker = heapq.heappop(free)
        done = max(at, asked[batch]) + load_s
        heapq.heappush(free, (done, worker))
        ready.append(done)
        now = max(now, ready[batch]) + handing_s
        asked.append(now)
        now += step_s
        if batch == batches // 4:
            began = now
    return (now - began) / (batches - 1 - batches // 4)


class Loop:
    """A loop whose steps and loads are lines in the batch."""

    def __init__(self, *, load, step, workers=0, handing_s=0.0):
        self.load, self.step, self.workers, self.handing_s = load, step, workers, handing_s

    def step_s(self, size):
        return self.step[0] + self.step[1] * size

    def loop_s(self, size, accumulation=1):
        micro = size // accumulation
        load_s = self.load[0] + self.load[1] * micro
        each_s = self.step_s(size) / accumulation
        return accumulation * simulate(load_s, each_s, self.workers, self.handing_s)

    def time(self, size, draw=None, noise=0.0):
        rates = {}
        load_s = self.load[0] + self.load[1] * size
        alone_s = simulate(load_s, 0.0, self.workers, self.handing_s)
        for name, seconds in {
            "alone_samples_per_s": alone_s,
            "training_samples_per_s": self.step_s(size),
            "together_samples_per_s": self.loop_s(size),
        }.items():
            factors = [math.exp(draw.gauss(0.0, noise)) if noise else 1.0 for _ in range(4)]
            rates[name] = tuple(size / seconds * factor for factor in factors)
        return LoaderTiming(
            workers=self.workers,
            micro_batch_size=size,
            is_own=True,
            waiting_fractions=(0.5,) * 4,
            **rates,
        )

    def conclude(self, *sizes, **noise):
        return conclude_loader([self.time(size, **noise) for size in sizes])


lines = st.tuples(st.floats(0.0, 1e-3), st.floats(1e-6, 1e-4))
loops = st.builds(
    Loop,
    load=lines,
    step=st.tuples(st.floats(1e-4, 1e-3), st.floats(1e-7, 1e-4)),
    workers=st.sampled_from([0, 0, 1, 2, 5]),
)


@settings(deadline=None)  # the first case imports scipy
@given(loop=loops, size=st.sampled_from([16, 32, 64, 128, 256, 1024]))
def test_the_law_gives_what_the_loop_takes(loop, size):
    found = loop.conclude(BASE, OTHER)
    law_s = estimate_loop_step_s(loop.step_s(size), size, size, found)
    assert law_s == pytest.approx(loop.loop_s(size), rel=0.02 if loop.workers == 0 else 0.1)
    assert found.law_sizes == (BASE, OTHER)


@given(loop=loops, seed=st.integers(0, 1000), size=st.sampled_from([16, 64, 512]))
def test_noise_of_the_windows_moves_it_by_little(loop, seed, size):
    found = loop.conclude(BASE, OTHER, draw=random.Random(seed), noise=0.03)
    law_s = estimate_loop_step_s(loop.step_s(size), size, size, found)
    assert law_s == pytest.approx(loop.loop_s(size), rel=0.2)
    assert 0.0 < found.log_error < 0.15


@given(loop=loops, accumulation=st.sampled_from([2, 4, 8]))
def test_micro_batches_are_loaded_one_by_one(loop, accumulation):
    found, size = loop.conclude(BASE, OTHER), 512
    law_s = estimate_loop_step_s(loop.step_s(size), size, size // accumulation, found)
    known_s = loop.loop_s(size, accumulation)
    assert law_s == pytest.approx(known_s, rel=0.02 if loop.workers == 0 else 0.1)


@pytest.mark.parametrize("workers", [1, 2])
def test_handing_over_that_nothing_hides_is_paid(workers):
    loop = Loop(load=(1e-4, 2e-5), step=(2e-4, 1e-5), workers=workers, handing_s=2e-4)
    found = loop.conclude(BASE, OTHER)
    for size in (BASE, 128, OTHER):
        law_s = estimate_loop_step_s(loop.step_s(size), size, size, found)
        assert law_s == pytest.approx(loop.loop_s(size), rel=0.1)


@given(loop=loops, size=st.sampled_from([32, 512]))
def test_with_one_size_loading_is_proportional(loop, size):
    found = loop.conclude(BASE)
    load_s = loop.load[0] + loop.load[1] * BASE
    assert (found.law_sizes, found.fixed_s) == ((BASE,), 0.0)
    assert found.per_sample_s == pytest.approx(load_s / max(1, loop.workers) / BASE, rel=0.1)


def test_the_way_to_the_device_counts_as_loading():
    timing = LoaderTiming(
        workers=0,
        micro_batch_size=100,
        is_own=True,
        alone_samples_per_s=(10_000.0,) * 2,
        training_samples_per_s=(2_000.0,) * 2,
        together_samples_per_s=(100 / 0.06,) * 2,
        moving_s=(0.02,) * 2,
    )
    found = conclude_loader([timing])
    assert 100 * found.per_sample_s == pytest.approx(0.03)
    assert estimate_loop_step_s(0.03, 100, 100, found) == pytest.approx(0.06)


@given(
    overhead_s=st.floats(0.0, 10.0),
    restart_s=st.floats(0.0, 0.1),
    no_loader=st.booleans(),
    size=st.integers(1, 4096),
)
def test_what_an_epoch_costs_is_shared_by_its_samples(overhead_s, restart_s, no_loader, size):
    loop = Loop(load=(0.0, 1e-5), step=(1e-3, 1e-6))
    timings = [msgspec.structs.replace(loop.time(BASE), restart_s=restart_s)]
    limits = Limits(epoch_overhead_s=overhead_s, no_loader=no_loader)
    found = add_epoch(conclude_loader(timings), timings, FACTS, limits)
    epoch_s = overhead_s + (0.0 if no_loader else restart_s)
    load_s = 0.0 if no_loader else 1e-5 * size
    steps = FACTS.dataset_size / size
    law_s = estimate_loop_step_s(0.5, size, size, found)
    assert law_s == pytest.approx(0.5 + load_s + epoch_s / steps)


def test_without_a_loader_a_step_is_a_step():
    assert add_epoch(None, (), FACTS, Limits()) is None
    assert estimate_loop_step_s(0.25, 64, 32, None) == 0.25
    found = add_epoch(None, (), FACTS, Limits(epoch_overhead_s=50.0))
    assert found.status == "none"
    assert estimate_loop_step_s(0.25, 64, 32, found) == pytest.approx(0.25 + 50.0 * 64 / 50_000)


@given(
    base=st.none() | st.integers(1, 5000),
    largest=st.integers(1, 5000),
    samples=st.none() | st.integers(1, 5000),
    multiple=st.sampled_from([1, 1, 2, 8]),
)
def test_sizes_to_time_fit_and_differ(base, largest, samples, multiple):
    facts = msgspec.structs.replace(FACTS, base_batch_size=base, dataset_size=samples)
    largest = max(multiple, largest // multiple * multiple)
    if samples is not None and samples < multiple:
        assert list_sizes(facts, largest, batch_multiple=multiple) == ()
        return
    first, *others = list_sizes(facts, largest, batch_multiple=multiple)
    most = min(largest, samples or largest)
    assert all(size % multiple == 0 and 0 < size <= most for size in (first, *others))
    assert first not in others
    if base is not None and base % multiple == 0 and base <= most:
        assert first == base
    if most >= 2 * multiple + multiple * (first // multiple):
        assert others
    assert list_sizes(facts, None, batch_multiple=multiple) == ()
