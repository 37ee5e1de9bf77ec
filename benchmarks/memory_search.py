"""How many probes and out-of-memory errors the memory search takes, beside doubling and bisection.

Run: python benchmarks/memory_search.py. Six simulated models on three capacities, each with memory
that is not modelled: none, 3 % and 10 %. It is hidden, or visible: no trace has it, and a probe
measures it or does not. Where it is visible, probes measure in the currency of the limit, as on
Linux CPUs. Peaks carry up to half a MiB of noise; every cell is run with several seeds. Nothing is
measured on a device; the sizes of the models are round figures for their kind. Doubling and
bisection stops at the same resolution as the search by the law.
"""

import math
import random
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from results import write_results
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from advisor.memory.data import Probe
from advisor.memory.plan import choose_next_micro_batch_size
from advisor.memory.search import SearchBounds
from advisor.predict.data import PredictedMemory
from advisor.predict.law import AffinePiece

MIB, GIB = 1 << 20, 1 << 30
CAPACITIES_BYTES = (8 * GIB, 24 * GIB, 80 * GIB)
UNMODELLED_FRACTIONS = (0.0, 0.03, 0.1)
NOISE_BYTES, ALLOCATOR_BYTES = MIB // 2, 512
SEEDS = 10
ANY_SIZE = SearchBounds(min_micro_batch_size=1)


@dataclass(frozen=True, kw_only=True)
class Model:
    """Memory of one training step, by what it is for.

    Attributes:
        parameter_bytes: All parameters; gradients are as large.
        states: Tensors of that size that the optimizer keeps.
        activation_bytes: For one sample, at the start of the backward pass.
        late_bytes: For one sample, at the end of the backward pass, beside all gradients.
        output_bytes: For one sample, still held during the optimizer step.
    """

    name: str
    parameter_bytes: int
    states: int
    activation_bytes: int
    late_bytes: int
    output_bytes: int


MODELS = (
    Model(
        name="ResNet-50, momentum",
        parameter_bytes=100 * MIB,
        states=1,
        activation_bytes=90 * MIB,
        late_bytes=25 * MIB,
        output_bytes=1 * MIB,
    ),
    Model(
        name="VGG-16, momentum",
        parameter_bytes=530 * MIB,
        states=1,
        activation_bytes=110 * MIB,
        late_bytes=30 * MIB,
        output_bytes=1 * MIB,
    ),
    Model(
        name="ViT-B/16, AdamW",
        parameter_bytes=330 * MIB,
        states=2,
        activation_bytes=75 * MIB,
        late_bytes=8 * MIB,
        output_bytes=1 * MIB,
    ),
    Model(
        name="GPT-2 small, AdamW",
        parameter_bytes=480 * MIB,
        states=2,
        activation_bytes=640 * MIB,
        late_bytes=240 * MIB,
        output_bytes=200 * MIB,
    ),
    Model(
        name="tabular MLP, AdamW",
        parameter_bytes=40 * MIB,
        states=2,
        activation_bytes=100 * 1024,
        late_bytes=8 * 1024,
        output_bytes=2 * 1024,
    ),
    Model(
        name="ranker with embeddings, SGD",
        parameter_bytes=1500 * MIB,
        states=0,
        activation_bytes=60 * 1024,
        late_bytes=8 * 1024,
        output_bytes=2 * 1024,
    ),
)


class Machine:
    """One model under one capacity.

    Args:
        model: What is trained.
        capacity_bytes: The limit.
        unmodelled: Share of the peak that no trace has.
        is_visible: Whether probes measure it, in the currency of the limit.
        seed: Of the noise.
    """

    def __init__(
        self,
        model: Model,
        capacity_bytes: int,
        unmodelled: float,
        *,
        is_visible: bool,
        seed: int,
    ) -> None:
        self.model, self.capacity_bytes, self.is_visible = model, capacity_bytes, is_visible
        self._unmodelled, self._generator = unmodelled, random.Random(seed)

    def fits(self, size: int) -> bool:
        """Return whether a size runs."""
        return max(self._peaks(size)) * (1.0 + self._unmodelled) <= self.capacity_bytes

    def run(self, size: int) -> Probe:
        """Return what a probe of a size would report."""
        if not self.fits(size):
            return Probe(stage="memory", session=0, micro_batch_size=size, outcome="oom")
        seen = 1.0 + self._unmodelled if self.is_visible else 1.0
        first, second = (
            round(peak * seen + self._generator.uniform(-NOISE_BYTES, NOISE_BYTES))
            for peak in self._peaks(size)
        )
        return Probe(
            stage="memory",
            session=0,
            micro_batch_size=size,
            outcome="fit",
            forward_backward_peak_bytes=first,
            optimizer_peak_bytes=second,
            limit_peak_bytes=max(first, second) if self.is_visible else None,
        )

    def predict(self) -> PredictedMemory:
        """Return what a trace would say."""
        first, second = self._pieces()
        return PredictedMemory(operators="cuda", forward_backward=first, optimizer=second)

    def _peaks(self, size: int) -> tuple[int, int]:
        first, second = (
            _round_up(max(piece.fixed_bytes + piece.bytes_per_sample * size for piece in pieces))
            for pieces in self._pieces()
        )
        return first, second

    def _pieces(self) -> tuple[tuple[AffinePiece, ...], tuple[AffinePiece, ...]]:
        model = self.model
        resident = model.parameter_bytes * (1 + model.states)
        gradients = model.parameter_bytes
        late = AffinePiece(resident + gradients, model.late_bytes)
        early = AffinePiece(resident, model.activation_bytes)
        return (late, early), (AffinePiece(resident + 2 * gradients, model.output_bytes),)


def _round_up(peak_bytes: int) -> int:
    return math.ceil(peak_bytes / ALLOCATOR_BYTES) * ALLOCATOR_BYTES


def search_by_law(machine: Machine) -> list[Probe]:
    """Return the probes of this project's search where the model cannot be traced."""
    return _search(machine, None)


def search_by_prediction(machine: Machine) -> list[Probe]:
    """Return the probes of this project's search with a prediction."""
    return _search(machine, machine.predict())


def _search(machine: Machine, prediction: PredictedMemory | None) -> list[Probe]:
    bounds = SearchBounds(min_micro_batch_size=1, capacity_bytes=machine.capacity_bytes)
    history: list[Probe] = []
    while (size := choose_next_micro_batch_size(history, bounds, prediction)) is not None:
        history.append(machine.run(size))
    return history


def search_by_bisection(machine: Machine) -> list[Probe]:
    """Return the probes of doubling up to the first failure and bisection from there."""
    history = [machine.run(1)]
    while history[-1].outcome == "fit":
        history.append(machine.run(2 * history[-1].micro_batch_size))
    failed = history[-1].micro_batch_size
    ran = failed // 2
    while ran and not ANY_SIZE.is_gap_closed(ran, failed):
        history.append(machine.run((ran + failed) // 2))
        size = history[-1].micro_batch_size
        ran, failed = (size, failed) if history[-1].outcome == "fit" else (ran, size)
    return history


SEARCHES: dict[str, Callable[[Machine], list[Probe]]] = {
    "guided": search_by_prediction,
    "by the law": search_by_law,
    "doubling, bisection": search_by_bisection,
}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One search on one machine."""

    search: str
    model: str
    capacity_bytes: int
    unmodelled_fraction: float
    is_visible: bool
    seed: int
    largest: int
    answer: int
    probes: int
    ooms: int
    verified: bool


def run_trials() -> Iterator[Trial]:
    """Yield every search on every machine on which one sample fits."""
    for model in MODELS:
        for capacity_bytes in CAPACITIES_BYTES:
            for unmodelled, is_visible in product(UNMODELLED_FRACTIONS, (True, False)):
                for seed, name in product(range(SEEDS), SEARCHES):
                    machine = Machine(
                        model, capacity_bytes, unmodelled, is_visible=is_visible, seed=seed
                    )
                    if machine.fits(1):
                        yield _run_trial(name, machine, unmodelled, seed)


def _run_trial(name: str, machine: Machine, unmodelled: float, seed: int) -> Trial:
    history = SEARCHES[name](machine)
    answer = max(p.micro_batch_size for p in history if p.outcome == "fit")
    failed = min((p.micro_batch_size for p in history if p.outcome != "fit"), default=None)
    return Trial(
        search=name,
        model=machine.model.name,
        capacity_bytes=machine.capacity_bytes,
        unmodelled_fraction=unmodelled,
        is_visible=machine.is_visible,
        seed=seed,
        largest=_find_largest(machine),
        answer=answer,
        probes=len(history),
        ooms=sum(probe.outcome != "fit" for probe in history),
        verified=failed is not None and ANY_SIZE.is_gap_closed(answer, failed),
    )


def _find_largest(machine: Machine) -> int:
    low, high = 1, 2
    while machine.fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if machine.fits(middle) else (low, middle)
    return low


def summarise(trials: list[Trial]) -> dict[str, float]:
    """Return the figures of one row."""
    return {
        "probes_mean": statistics.fmean(trial.probes for trial in trials),
        "probes_max": max(trial.probes for trial in trials),
        "ooms_mean": statistics.fmean(trial.ooms for trial in trials),
        "ooms_max": max(trial.ooms for trial in trials),
        "shortfall_max_fraction": max(1.0 - trial.answer / trial.largest for trial in trials),
        "verified_fraction": statistics.fmean(trial.verified for trial in trials),
        "above_truth": sum(trial.answer > trial.largest for trial in trials),
        "trials": len(trials),
    }


def main() -> None:
    """Run all trials, print a row for each search and part, and save them."""
    trials = list(run_trials())
    parts: dict[str, Callable[[Trial], bool]] = {"all": lambda _: True}
    for fraction, is_visible in product(UNMODELLED_FRACTIONS, (True, False)):
        parts[f"{'visible' if is_visible else 'hidden'} {fraction:.0%}"] = (
            lambda t, f=fraction, v=is_visible: t.unmodelled_fraction == f and t.is_visible == v
        )
    for capacity in CAPACITIES_BYTES:
        parts[f"{capacity // GIB} GiB"] = lambda t, c=capacity: t.capacity_bytes == c
    for model in MODELS:
        parts[model.name] = lambda t, n=model.name: t.model == n
    table = Table("search", "part", "probes", "max", "OOMs", "max", "verified", "worst shortfall")
    rows = []
    for name in SEARCHES:
        for part, belongs in parts.items():
            row = summarise([t for t in trials if t.search == name and belongs(t)])
            rows.append({"search": name, "part": part, **row})
            table.add_row(
                name,
                part,
                f"{row['probes_mean']:.1f}",
                f"{row['probes_max']:.0f}",
                f"{row['ooms_mean']:.2f}",
                f"{row['ooms_max']:.0f}",
                f"{row['verified_fraction']:.0%}",
                f"{row['shortfall_max_fraction']:.2%}",
            )
        table.add_section()
    Console().print(table)
    machines = {
        "models": [asdict(model) for model in MODELS],
        "capacities_bytes": CAPACITIES_BYTES,
        "unmodelled_fractions": UNMODELLED_FRACTIONS,
        "noise_bytes": NOISE_BYTES,
        "seeds": SEEDS,
    }
    print(write_results("memory_search", {"machines": machines, "rows": rows}))


if __name__ == "__main__":
    main()
