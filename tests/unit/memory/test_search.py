"""The memory search against simulated machines whose largest size is known."""

import itertools
import math
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.memory.data import Outcome, Probe
from advisor.memory.plan import (
    MAX_OOMS,
    MAX_PROBES,
    choose_next_micro_batch_size,
    conclude_memory,
)
from advisor.memory.search import SearchBounds

MIB, GIB = 1 << 20, 1 << 30


@dataclass(kw_only=True)
class Machine:
    """Peaks are convex maxima of affine pieces; more is needed than the peaks say."""

    forward_backward: tuple[tuple[float, float], ...]
    optimizer: tuple[float, float]
    capacity_bytes: int
    unmodelled_fraction: float = 0.0
    noise_bytes: float = 0.0
    granularity_bytes: int = 1
    seed: int = 0
    generator: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.generator = random.Random(self.seed)

    def phases(self, size: int) -> tuple[int, int]:
        peaks = (
            max(fixed + slope * size for fixed, slope in self.forward_backward),
            self.optimizer[0] + self.optimizer[1] * size,
        )
        first, second = (math.ceil(p / self.granularity_bytes) for p in peaks)
        return first * self.granularity_bytes, second * self.granularity_bytes

    def fits(self, size: int) -> bool:
        return max(self.phases(size)) * (1.0 + self.unmodelled_fraction) <= self.capacity_bytes

    def largest(self) -> int:
        low, high = 0, 1
        while self.fits(high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.fits(middle) else (low, middle)
        return low

    def run(self, size: int) -> Probe:
        if not self.fits(size):
            return outcome(size, "oom")
        forward_backward, optimizer = (
            round(max(0.0, peak + self.generator.uniform(-self.noise_bytes, self.noise_bytes)))
            for peak in self.phases(size)
        )
        return outcome(size, "fit", forward_backward, optimizer)


def outcome(
    size: int, how: Outcome, forward_backward: int | None = None, optimizer: int | None = None
) -> Probe:
    return Probe(
        stage="memory",
        session=0,
        micro_batch_size=size,
        outcome=how,
        forward_backward_peak_bytes=forward_backward,
        optimizer_peak_bytes=optimizer,
    )


def search(machine: Machine, **bounds: int | None) -> list[Probe]:
    limits = SearchBounds(
        **{"min_micro_batch_size": 1, "capacity_bytes": machine.capacity_bytes, **bounds}  # type: ignore[arg-type]
    )
    history: list[Probe] = []
    while (size := choose_next_micro_batch_size(history, limits)) is not None:
        history.append(machine.run(size))
        assert len(history) <= MAX_PROBES
    return history


def sizes_of(history: list[Probe]) -> list[int]:
    return [probe.micro_batch_size for probe in history]


def answer_of(history: list[Probe]) -> int:
    return max((p.micro_batch_size for p in history if p.outcome == "fit"), default=0)


def ooms_of(history: list[Probe]) -> int:
    return sum(probe.outcome != "fit" for probe in history)


def transformer(capacity_bytes: int, **changes: float) -> Machine:
    """AdamW: the optimizer binds up to a size of 4, then the forward pass."""
    return Machine(
        forward_backward=((300 * MIB, 50 * MIB), (400 * MIB, 5 * MIB)),
        optimizer=(500 * MIB, 1 * MIB),
        capacity_bytes=capacity_bytes,
        **changes,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(("capacity_gib", "expected"), [(2, 34), (8, 157), (24, 485), (80, 1632)])
def test_search_ends_on_the_capacity(capacity_gib: int, expected: int) -> None:
    machine = transformer(capacity_gib * GIB)
    assert machine.largest() == expected
    history = search(machine)
    assert answer_of(history) <= expected
    assert answer_of(history) >= expected * 0.99
    assert ooms_of(history) == 1


def test_sequence_over_a_perfect_law() -> None:
    history = search(transformer(24 * GIB))
    assert sizes_of(history) == [1, 43, 400, 463, 485, 487]
    assert [probe.outcome for probe in history] == ["fit"] * 5 + ["oom"]


def test_sequence_where_the_law_is_three_per_cent_off() -> None:
    history = search(transformer(24 * GIB, unmodelled_fraction=0.03))
    assert sizes_of(history) == [1, 43, 400, 463, 485, 467, 471, 475]
    assert [p.micro_batch_size for p in history if p.outcome == "oom"] == [485, 475]


def test_dataset_ends_the_search_without_an_error() -> None:
    assert sizes_of(search(transformer(80 * GIB), max_micro_batch_size=100)) == [1, 100]


def test_nothing_fits() -> None:
    history = search(transformer(400 * MIB))
    assert sizes_of(history) == [1]
    bounds = SearchBounds(min_micro_batch_size=1, capacity_bytes=400 * MIB)
    assert choose_next_micro_batch_size(history, bounds) is None


def test_minimum_is_the_first_size() -> None:
    assert sizes_of(search(transformer(2 * GIB), min_micro_batch_size=2))[0] == 2


def test_nothing_is_tried_where_the_minimum_is_above_the_dataset() -> None:
    bounds = SearchBounds(min_micro_batch_size=8, max_micro_batch_size=7, batch_multiple=8)
    assert choose_next_micro_batch_size([], bounds) is None


def test_dataset_of_one_multiple_needs_one_probe() -> None:
    history = search(
        transformer(8 * GIB), min_micro_batch_size=8, max_micro_batch_size=15, batch_multiple=8
    )
    assert sizes_of(history) == [8]


def test_every_size_is_a_multiple() -> None:
    history = search(transformer(24 * GIB), min_micro_batch_size=16, batch_multiple=16)
    assert all(size % 16 == 0 for size in sizes_of(history))
    assert answer_of(history) == 480
    assert 496 in sizes_of(history)


@pytest.mark.parametrize("how", ["error", "timeout"])
def test_another_failure_ends_the_search(how: Outcome) -> None:
    history = [outcome(1, "fit", 10, 10), outcome(2, how)]
    bounds = SearchBounds(min_micro_batch_size=1, capacity_bytes=1000)
    assert choose_next_micro_batch_size(history, bounds) is None


def test_a_spill_does_not_fit() -> None:
    history = [outcome(1, "fit", 10 * MIB, 1), outcome(2, "spill")]
    bounds = SearchBounds(min_micro_batch_size=1, capacity_bytes=100 * MIB)
    assert choose_next_micro_batch_size(history, bounds) is None


def test_probes_of_other_stages_do_not_count() -> None:
    other = Probe(stage="throughput", session=0, micro_batch_size=64, outcome="fit")
    bounds = SearchBounds(min_micro_batch_size=1, capacity_bytes=1000)
    assert choose_next_micro_batch_size([other], bounds) == 1


def test_search_without_a_capacity_or_peaks_still_ends() -> None:
    bounds = SearchBounds(min_micro_batch_size=1)
    history: list[Probe] = []
    while (size := choose_next_micro_batch_size(history, bounds)) is not None:
        history.append(outcome(size, "fit" if size <= 100 else "oom"))
    assert len(history) <= MAX_PROBES
    assert ooms_of(history) <= MAX_OOMS
    assert 80 <= answer_of(history) <= 100


def test_peaks_that_were_not_measured_do_not_stop_the_search() -> None:
    bounds = SearchBounds(min_micro_batch_size=1, capacity_bytes=GIB, max_micro_batch_size=50)
    history: list[Probe] = []
    while (size := choose_next_micro_batch_size(history, bounds)) is not None:
        history.append(outcome(size, "fit"))
    assert answer_of(history) == 50


def test_flat_law_does_not_leap_to_the_dataset() -> None:
    flat = Machine(
        forward_backward=((GIB, 0.0),), optimizer=(GIB, 0.0), capacity_bytes=int(1.2 * GIB)
    )
    sizes = sizes_of(search(flat, max_micro_batch_size=10**6))
    assert all(later <= 8 * earlier for earlier, later in itertools.pairwise(sizes))


@settings(max_examples=300)
@given(
    outcomes=st.lists(st.booleans(), min_size=MAX_PROBES, max_size=MAX_PROBES),
    peaks=st.lists(st.integers(0, 2 * GIB), min_size=MAX_PROBES, max_size=MAX_PROBES),
    capacity=st.one_of(st.none(), st.integers(1, 4 * GIB)),
    multiple=st.integers(1, 32),
    largest=st.one_of(st.none(), st.integers(1, 10**6)),
)
def test_limits_hold_on_a_machine_without_any_law(
    outcomes: list[bool],
    peaks: list[int],
    capacity: int | None,
    multiple: int,
    largest: int | None,
) -> None:
    bounds = SearchBounds(
        min_micro_batch_size=multiple,
        max_micro_batch_size=largest,
        batch_multiple=multiple,
        capacity_bytes=capacity,
    )
    history: list[Probe] = []
    while (size := choose_next_micro_batch_size(history, bounds)) is not None:
        assert len(history) < MAX_PROBES
        assert size % multiple == 0
        assert largest is None or size <= largest
        assert size not in sizes_of(history)
        assert all(size < p.micro_batch_size for p in history if p.outcome == "oom")
        how: Outcome = "fit" if outcomes[len(history)] else "oom"
        history.append(outcome(size, how, peaks[len(history)], peaks[-1]))
    assert ooms_of(history) <= MAX_OOMS


def draw_machine(seed: int) -> Machine:
    """A model with activations of 0.1 % to 300 % of its parameters per sample, on any device."""
    generator = random.Random(seed)

    def log_uniform(low: float, high: float) -> float:
        return float(low * (high / low) ** generator.random())

    parameters = log_uniform(0.2 * MIB, 4 * GIB)
    states = generator.choice((0, 1, 2))
    activations = parameters * log_uniform(1e-3, 3.0)
    outputs = activations * generator.uniform(0.001, 0.05)
    least = parameters * (2 + states) + activations
    capacity = max(32 * MIB, least * log_uniform(1.2, 200.0))
    return Machine(
        forward_backward=(
            (parameters * (1 + states), activations),
            (parameters * (2 + states), outputs + activations * generator.uniform(0.0, 0.3)),
        ),
        optimizer=(parameters * (2 + states + generator.choice((0, 1))), outputs),
        capacity_bytes=int(capacity),
        unmodelled_fraction=generator.choice((0.0, 0.03, 0.1, generator.uniform(0.0, 0.1))),
        noise_bytes=generator.choice((64 * 1024, MIB / 2)),
        granularity_bytes=generator.choice((1, 512, 4096)),
        seed=seed,
    )


def test_answer_is_within_one_per_cent_over_hundreds_of_machines() -> None:
    seeds = range(600)
    unverified = 0
    for seed in seeds:
        machine = draw_machine(seed)
        truth, history = machine.largest(), search(machine)
        assert ooms_of(history) <= MAX_OOMS
        assert answer_of(history) <= truth
        conclusion = conclude_memory(
            history,
            SearchBounds(min_micro_batch_size=1, capacity_bytes=machine.capacity_bytes),
            headroom_bytes=0,
            dataset_size=None,
        )
        if conclusion.verified:
            assert (truth - answer_of(history)) / truth < 0.01
        elif truth:
            unverified += 1
    # Where fixed memory takes most of the capacity, a kink may lie just below the limit; two errors
    # are then not enough to find it, and the search says so.
    assert unverified <= 0.06 * len(seeds)


@pytest.mark.parametrize("unmodelled_fraction", [0.0, 0.03, 0.1])
def test_ordinary_models_are_always_verified(unmodelled_fraction: float) -> None:
    for capacity_bytes in range(2 * GIB, 80 * GIB, GIB):
        machine = transformer(
            capacity_bytes, unmodelled_fraction=unmodelled_fraction, noise_bytes=MIB / 2
        )
        history, truth = search(machine), machine.largest()
        assert 0.99 * truth < answer_of(history) <= truth, sizes_of(history)


class BlindMachine(Machine):
    """Runs or fails, and tells no peak."""

    def run(self, size: int) -> Probe:
        return outcome(size, "fit" if self.fits(size) else "oom")


@pytest.mark.parametrize("capacity_gib", [2, 8, 24, 80])
def test_without_peaks_the_search_goes_by_what_fits(capacity_gib: int) -> None:
    seeing = transformer(capacity_gib * GIB)
    machine = BlindMachine(
        forward_backward=seeing.forward_backward,
        optimizer=seeing.optimizer,
        capacity_bytes=seeing.capacity_bytes,
    )
    history = search(machine)
    assert 0.85 * machine.largest() <= answer_of(history) <= machine.largest()
    assert ooms_of(history) == MAX_OOMS
