"""The guided search against simulated machines whose prediction leaves memory out, or is wrong."""

import math
import random
import statistics
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from advisor.memory.data import Outcome, Probe
from advisor.memory.guided import GUIDED_LIMITS
from advisor.memory.plan import (
    MAX_PROBES,
    choose_method,
    choose_next_micro_batch_size,
    conclude_memory,
)
from advisor.memory.search import SearchBounds
from advisor.predict.data import PredictedMemory
from advisor.predict.law import AffinePiece

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MACHINES = 300

Lines = tuple[tuple[float, float], ...]


@dataclass(kw_only=True)
class Machine:
    """A traced model on a device.

    Attributes:
        forward_backward: (bytes at size zero, bytes per sample) of each piece, as traced.
        optimizer: Likewise.
        unmodelled: Share that the trace leaves out but a probe measures.
        kind: What it is a share of: the peak, the capacity, or each sample's activations.
        hidden: Share of the peak that no probe measures.
        jitter: Share of the capacity by which the need of each single size may be higher.
        wrong: What the prediction is multiplied by.
        is_exact: Whether probes measure in the currency of the limit.
    """

    forward_backward: Lines
    optimizer: Lines
    capacity_bytes: int
    unmodelled: float = 0.0
    kind: str = "proportional"
    hidden: float = 0.0
    jitter: float = 0.0
    wrong: float = 1.0
    noise_bytes: float = 0.0
    granularity_bytes: int = 1
    is_exact: bool = True
    seed: int = 0
    generator: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.generator = random.Random(self.seed)

    def predict(self) -> PredictedMemory:
        forward_backward, optimizer = (
            tuple(
                AffinePiece(round(fixed * self.wrong), round(slope * self.wrong))
                for fixed, slope in sorted(lines, key=lambda line: line[1])
            )
            for lines in (self.forward_backward, self.optimizer)
        )
        return PredictedMemory(
            operators="cpu", forward_backward=forward_backward, optimizer=optimizer
        )

    def phases(self, size: int) -> tuple[float, float]:
        first, second = (
            math.ceil(max(fixed + slope * size for fixed, slope in lines) / self.granularity_bytes)
            * self.granularity_bytes
            for lines in (self.forward_backward, self.optimizer)
        )
        if self.kind == "constant":
            extra = self.unmodelled * self.capacity_bytes
            return first + extra, second + extra
        if self.kind == "scratch":
            return first + self.unmodelled * self.forward_backward[0][1] * size, float(second)
        return first * (1 + self.unmodelled), second * (1 + self.unmodelled)

    def fits(self, size: int) -> bool:
        luck = random.Random(self.seed * 7919 + size).random()
        need = max(self.phases(size)) * (1 + self.hidden)
        return need + luck * self.jitter * self.capacity_bytes <= self.capacity_bytes

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
        first, second = (
            round(max(0.0, peak + self.generator.uniform(-self.noise_bytes, self.noise_bytes)))
            for peak in self.phases(size)
        )
        return outcome(size, "fit", first, second, is_exact=self.is_exact)


def outcome(
    size: int,
    how: Outcome,
    forward_backward: int | None = None,
    optimizer: int | None = None,
    *,
    is_exact: bool = False,
) -> Probe:
    peaks = [peak for peak in (forward_backward, optimizer) if peak is not None]
    return Probe(
        stage="memory",
        session=0,
        micro_batch_size=size,
        outcome=how,
        forward_backward_peak_bytes=forward_backward,
        optimizer_peak_bytes=optimizer,
        limit_peak_bytes=max(peaks) if is_exact else None,
    )


def search(machine: Machine, **bounds: int | None) -> list[Probe]:
    limits = SearchBounds(
        **{"min_micro_batch_size": 1, "capacity_bytes": machine.capacity_bytes, **bounds}  # type: ignore[arg-type]
    )
    prediction = machine.predict()
    history: list[Probe] = []
    while (size := choose_next_micro_batch_size(history, limits, prediction)) is not None:
        history.append(machine.run(size))
        assert len(history) <= MAX_PROBES
    return history


def sizes_of(history: list[Probe]) -> list[int]:
    return [probe.micro_batch_size for probe in history]


def answer_of(history: list[Probe]) -> int:
    return max((p.micro_batch_size for p in history if p.outcome == "fit"), default=0)


def ooms_of(history: list[Probe]) -> int:
    return sum(probe.outcome != "fit" for probe in history)


def transformer(capacity_bytes: int, **changes: object) -> Machine:
    """AdamW: the optimizer binds up to a size of 4, then the forward pass."""
    return Machine(
        forward_backward=((300 * MIB, 50 * MIB), (400 * MIB, 5 * MIB)),
        optimizer=((500 * MIB, 1 * MIB),),
        capacity_bytes=capacity_bytes,
        **changes,  # type: ignore[arg-type]
    )


def draw_machine(seed: int, **changes: object) -> Machine:
    """A model with activations of 0.1 % to 300 % of its parameters per sample, on any device."""
    generator = random.Random(seed)

    def log_uniform(low: float, high: float) -> float:
        return float(low * (high / low) ** generator.random())

    parameters = log_uniform(0.2 * MIB, 4 * GIB)
    states = generator.choice((0, 1, 2))
    activations = parameters * log_uniform(1e-3, 3.0)
    outputs = activations * generator.uniform(0.001, 0.05)
    least = parameters * (2 + states) + activations
    return Machine(
        forward_backward=(
            (parameters * (1 + states), activations),
            (parameters * (2 + states), outputs + activations * generator.uniform(0.0, 0.3)),
        ),
        optimizer=((parameters * (2 + states + generator.choice((0, 1))), outputs),),
        capacity_bytes=int(max(32 * MIB, least * log_uniform(1.2, 200.0))),
        noise_bytes=generator.choice((64 * KIB, 256 * KIB)),
        granularity_bytes=generator.choice((1, 512, 4096)),
        seed=seed,
        **changes,  # type: ignore[arg-type]
    )


@dataclass(frozen=True)
class Figures:
    """What many searches come to."""

    probes_mean: float
    ooms_mean: float
    exact_share: float
    worst_shortfall: float


def run_many(**changes: object) -> Figures:
    probes, ooms, exact, shortfalls = [], [], [], []
    for seed in range(MACHINES):
        machine = draw_machine(seed, **changes)
        truth = machine.largest()
        if truth == 0:
            continue
        history = search(machine)
        missing = truth - answer_of(history)
        assert len(history) <= GUIDED_LIMITS.probes
        assert ooms_of(history) <= GUIDED_LIMITS.ooms
        probes.append(len(history))
        ooms.append(ooms_of(history))
        exact.append(missing <= max(1.0, GUIDED_LIMITS.resolution_fraction * truth))
        shortfalls.append(missing / truth)
        if not machine.jitter:
            assert missing >= 0
    return Figures(
        statistics.fmean(probes), statistics.fmean(ooms), statistics.fmean(exact), max(shortfalls)
    )


def test_exact_prediction_needs_four_probes() -> None:
    history = search(transformer(24 * GIB))
    assert sizes_of(history) == [1, 364, 485, 487]
    assert [probe.outcome for probe in history] == ["fit", "fit", "fit", "oom"]


@pytest.mark.parametrize("kind", ["proportional", "constant", "scratch"])
@pytest.mark.parametrize("unmodelled", [0.0, 0.03, 0.1, 0.25])
def test_what_the_trace_leaves_out_is_found_by_the_calibration(
    unmodelled: float, kind: str
) -> None:
    figures = run_many(unmodelled=unmodelled, kind=kind)
    assert figures.probes_mean <= 5.0
    assert figures.ooms_mean <= 1.15
    assert figures.exact_share >= 0.99
    assert figures.worst_shortfall <= 0.02


@pytest.mark.parametrize(("hidden", "probes", "ooms"), [(0.0, 5.3, 1.2), (0.03, 7.6, 2.3)])
def test_memory_that_no_probe_shows_costs_probes_but_not_the_answer(
    hidden: float, probes: float, ooms: float
) -> None:
    figures = run_many(hidden=hidden, unmodelled=0.03, is_exact=False)
    assert figures.probes_mean <= probes
    assert figures.ooms_mean <= ooms
    assert figures.exact_share >= 0.99


@pytest.mark.parametrize("wrong", [0.5, 0.7, 1.5, 2.0])
def test_prediction_that_is_wrong_by_a_factor_is_corrected(wrong: float) -> None:
    figures = run_many(wrong=wrong, unmodelled=0.03)
    assert figures.probes_mean <= 5.5
    assert figures.ooms_mean <= 1.9
    assert figures.exact_share >= 0.98
    assert figures.worst_shortfall <= 0.03


def test_sizes_that_fail_by_bad_luck_near_the_limit_cost_little() -> None:
    figures = run_many(jitter=0.003, unmodelled=0.03)
    assert figures.probes_mean <= 4.8
    assert figures.ooms_mean <= 1.3
    assert figures.exact_share >= 0.97
    assert figures.worst_shortfall <= 0.02


def test_answer_is_exact_below_a_size_of_two_hundred() -> None:
    for capacity_gib in range(1, 10):
        machine = transformer(capacity_gib * GIB, unmodelled=0.1)
        assert machine.largest() < 200
        assert answer_of(search(machine)) == machine.largest()


def test_calibration_that_fails_is_tried_lower() -> None:
    machine = Machine(
        forward_backward=((MIB, 50 * MIB),),
        optimizer=((2 * MIB, MIB),),
        capacity_bytes=8 * GIB,
        wrong=0.3,
    )
    history = search(machine)
    assert answer_of(history) == machine.largest()
    assert sizes_of(history)[2] < sizes_of(history)[1]
    assert history[1].outcome == "oom"


def test_sudden_workspace_below_the_limit_is_found() -> None:
    """A library that changes its kernel at a size, and with it what it takes."""

    class Jump(Machine):
        def phases(self, size: int) -> tuple[float, float]:
            first, second = super().phases(size)
            return (first + (200 * MIB if size >= 150 else 0), second)

    machine = Jump(
        forward_backward=((300 * MIB, 50 * MIB),),
        optimizer=((500 * MIB, 1 * MIB),),
        capacity_bytes=8 * GIB,
    )
    assert answer_of(search(machine)) == machine.largest() == 153


def test_prediction_of_nothing_like_the_truth_is_refuted() -> None:
    machine = transformer(8 * GIB, wrong=0.02)
    history = search(machine)
    bounds = SearchBounds(min_micro_batch_size=1, capacity_bytes=machine.capacity_bytes)
    assert choose_method(history, bounds, machine.predict()) == "affine"
    assert answer_of(history) >= 0.5 * machine.largest()


def test_prediction_is_refuted_where_nothing_was_measured() -> None:
    bounds = SearchBounds(min_micro_batch_size=1, capacity_bytes=GIB)
    prediction = transformer(GIB).predict()
    assert choose_method([outcome(1, "fit")], bounds, prediction) == "affine"
    assert choose_method([outcome(1, "oom")], bounds, prediction) == "guided"
    assert choose_method([], bounds, None) == "affine"


def test_prediction_that_does_not_grow_is_refuted() -> None:
    flat = PredictedMemory(
        operators="cpu", forward_backward=(AffinePiece(MIB, 0),), optimizer=(AffinePiece(MIB, 0),)
    )
    bounds = SearchBounds(min_micro_batch_size=1, capacity_bytes=GIB)
    assert choose_method([outcome(1, "fit", MIB, MIB)], bounds, flat) == "affine"


def test_phase_that_was_not_measured_is_left_out() -> None:
    prediction = transformer(24 * GIB).predict()
    bounds = SearchBounds(min_micro_batch_size=1, capacity_bytes=24 * GIB)
    history = [outcome(1, "fit", 405 * MIB), outcome(2, "fit", optimizer=502 * MIB)]
    assert choose_method(history, bounds, prediction) == "guided"
    assert choose_next_micro_batch_size(history[:1], bounds, prediction) == 364


def test_without_a_capacity_the_probes_alone_lead() -> None:
    bounds = SearchBounds(min_micro_batch_size=1, max_micro_batch_size=1000)
    prediction = transformer(GIB).predict()
    history = [outcome(1, "fit", 10 * MIB, MIB)]
    assert choose_method(history, bounds, prediction) == "affine"
    assert choose_next_micro_batch_size(history, bounds, prediction) == 4


def test_dataset_that_surely_fits_needs_two_probes() -> None:
    machine = transformer(80 * GIB)
    assert sizes_of(search(machine, max_micro_batch_size=100)) == [1, 100]


def test_dataset_near_the_limit_is_reached_over_the_calibration() -> None:
    history = search(transformer(80 * GIB), max_micro_batch_size=1600)
    assert sizes_of(history) == [1, 1224, 1600]


def test_every_size_is_a_multiple() -> None:
    history = search(transformer(24 * GIB), min_micro_batch_size=16, batch_multiple=16)
    assert all(size % 16 == 0 for size in sizes_of(history))
    assert answer_of(history) == 480
    assert 496 in sizes_of(history)


def test_unusable_memory_of_the_allocator_is_left_free() -> None:
    machine = transformer(24 * GIB, hidden=0.03, is_exact=False)
    bounds = SearchBounds(min_micro_batch_size=1, capacity_bytes=machine.capacity_bytes)
    plain = machine.predict()
    simulated = PredictedMemory(
        operators="cuda",
        forward_backward=plain.forward_backward,
        optimizer=plain.optimizer,
        unusable_bytes=round(machine.capacity_bytes * (1 - 1 / 1.03)),
    )
    history: list[Probe] = []
    while (size := choose_next_micro_batch_size(history, bounds, simulated)) is not None:
        history.append(machine.run(size))
    assert ooms_of(history) == 1
    assert machine.largest() - answer_of(history) <= 2


@pytest.mark.parametrize(
    ("unmodelled", "off", "probes"),
    [(0.0, 0, 4), (0.0, -1, 5), (0.0, 1, 4), (0.1, 0, 9)],  # the last is not as predicted
)
def test_the_simulated_allocator_is_taken_at_its_word_where_peaks_are_as_predicted(
    unmodelled: float, off: int, probes: int
) -> None:
    machine = transformer(16 * GIB, unmodelled=unmodelled, hidden=0.03, is_exact=False)
    assert machine.largest() < 400  # so that a granule is one sample
    bounds = SearchBounds(min_micro_batch_size=1, capacity_bytes=machine.capacity_bytes)
    simulated = msgspec.structs.replace(machine.predict(), largest=machine.largest() + off)
    history: list[Probe] = []
    while (size := choose_next_micro_batch_size(history, bounds, simulated)) is not None:
        history.append(machine.run(size))
        peaks = (*simulated.simulated, (size, round(simulated.law.predict_bytes(size))))
        simulated = msgspec.structs.replace(simulated, simulated=peaks)
    assert answer_of(history) == machine.largest()
    assert len(history) <= probes


@settings(max_examples=200)
@given(
    outcomes=st.lists(st.booleans(), min_size=MAX_PROBES, max_size=MAX_PROBES),
    peaks=st.lists(st.integers(0, 2 * GIB), min_size=MAX_PROBES, max_size=MAX_PROBES),
    pieces=st.lists(
        st.builds(AffinePiece, st.integers(-GIB, GIB), st.integers(0, GIB)), max_size=4
    ),
    capacity=st.integers(1, 4 * GIB),
    multiple=st.integers(1, 32),
    largest=st.one_of(st.none(), st.integers(1, 10**6)),
    simulated=st.one_of(st.none(), st.integers(1, 10**6)),
    is_exact=st.booleans(),
)
@example(  # sizes that no float tells from their neighbours
    outcomes=[True] * 5 + [False] * (MAX_PROBES - 5),
    peaks=[0] * MAX_PROBES,
    pieces=[],
    capacity=3_619_358_850,
    multiple=17,
    largest=None,
    simulated=None,
    is_exact=False,
)
def test_limits_hold_on_a_machine_without_any_law(
    outcomes: list[bool],
    peaks: list[int],
    pieces: list[AffinePiece],
    capacity: int,
    multiple: int,
    largest: int | None,
    simulated: int | None,
    is_exact: bool,
) -> None:
    bounds = SearchBounds(
        min_micro_batch_size=multiple,
        max_micro_batch_size=largest,
        batch_multiple=multiple,
        capacity_bytes=capacity,
    )
    prediction = PredictedMemory(
        operators="cpu",
        forward_backward=tuple(pieces),
        optimizer=tuple(pieces[:1]),
        largest=simulated,
    )
    history: list[Probe] = []
    while (size := choose_next_micro_batch_size(history, bounds, prediction)) is not None:
        assert len(history) < MAX_PROBES
        assert size % multiple == 0
        assert largest is None or size <= largest
        assert size not in sizes_of(history)
        assert all(size < p.micro_batch_size for p in history if p.outcome == "oom")
        how: Outcome = "fit" if outcomes[len(history)] else "oom"
        history.append(outcome(size, how, peaks[len(history)], peaks[-1], is_exact=is_exact))
    assert ooms_of(history) <= GUIDED_LIMITS.ooms


def test_conclusion_of_a_guided_search_is_verified() -> None:
    machine = transformer(24 * GIB, unmodelled=0.1)
    history = search(machine)
    bounds = SearchBounds(min_micro_batch_size=1, capacity_bytes=machine.capacity_bytes)
    conclusion = conclude_memory(
        history, bounds, headroom_bytes=0, dataset_size=None, method="guided"
    )
    assert conclusion.verified
    assert conclusion.method == "guided"
    assert conclusion.upper_bound is not None
    assert bounds.is_gap_closed(answer_of(history), conclusion.upper_bound, 0.005)
    assert conclusion.headroom_at_max_bytes is not None
    assert 0 <= conclusion.headroom_at_max_bytes < 0.01 * machine.capacity_bytes
