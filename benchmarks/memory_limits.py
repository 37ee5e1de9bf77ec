"""The largest micro-batch of real models under enforced limits, by the advisor and by other tools.

Run: python benchmarks/memory_limits.py [--models NAME ...] [--limits MIB ...]. Eight models train
on the CPU under three limits. A maximum is a size that runs while the next does not. It is found
in fresh workers: doubling and bisection to an edge, then every size around it until a whole window
fails; fitting is not strictly monotone there (a library may take scratch memory for some sizes and
none for others), so there can be more than one, and all are listed. At the very edge a size may run
in one process and not in the next (some hundred KiB differ), so one that fails is tried three
times. The other tools run in one
process under the same limit; those that only go down start at the smallest power of two above the
largest maximum, which their users do not know. Tools that are not installed are left out, and the
result says so.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from memory_peers import list_peers, run_peer
from results import write_results
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from advisor.device.data import Environment
from advisor.engine.record import open_record
from advisor.engine.run import Run
from advisor.engine.runner import Runner
from advisor.engine.spec import Limits, Spec
from advisor.engine.task import EnvironmentTask, InspectTask
from advisor.errors import AdvisorError
from advisor.memory.data import PROBES, MemoryTask, Probe
from advisor.memory.plan import MEMORY
from advisor.memory.stage import run_memory
from advisor.questions import RUN
from advisor.training.data import WorkloadFacts, WorkloadSpec, parse_target

MIB = 1 << 20
MODELS_PATH = Path(__file__).resolve().parent / "models"
MODELS = (
    "perceptron",
    "residual",
    "transformer",
    "recurrent",
    "checkpointed",
    "embedding",
    "tied",
    "convolutions",
)
LIMITS_MIB = (80, 128, 200)
#: Answers may be this much below the true maximum: the search's own granule.
GRANULE_FRACTION = 0.005
#: Sizes on each side of the edge that are all run, at least and as granules.
WINDOW_SIZES, WINDOW_GRANULES = 4, 2
#: Times that a size must fail before it counts as one that does not run.
TRIES = 3
BUDGET_S = 600.0
TIMEOUT_S = 120.0


class Silent:
    """Progress that nobody watches; the notes are kept."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def stage(self, name: str, *, left_s: float | None) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Keep the note."""
        self.notes.append(text)


def find_granule(size: int) -> int:
    """Return by how much an answer may miss the true maximum."""
    return max(1, int(GRANULE_FRACTION * size))


def measure_advisor(runner: Runner, path: Path, limit_bytes: int) -> dict[str, Any]:
    """Return what the advisor's memory stage answers."""
    workload = WorkloadSpec(target=str(path), device="cpu")
    progress = Silent()
    spec = Spec(workload=workload, limits=Limits(memory_limit_bytes=limit_bytes, budget_s=BUDGET_S))
    run = Run(
        spec,
        record=open_record(RUN.record_type, spec, kind="run", argv=()),
        runner=runner,
        progress=progress,
        save=lambda _record: None,
    )
    environment, facts = (
        runner.run(task, timeout_s=TIMEOUT_S)[0]
        for task in (EnvironmentTask(device="cpu"), InspectTask(workload=workload))
    )
    assert isinstance(environment, Environment)
    assert isinstance(facts, WorkloadFacts)
    run.keep_environment(environment)
    run.keep_workload(facts)
    started = time.monotonic()
    run_memory(run)
    elapsed_s = time.monotonic() - started
    memory = run.of(MEMORY)
    assert memory is not None
    return {
        "peer": "advisor",
        "answer": memory.max_micro_batch_size,
        "trials": memory.probes,
        "failures": memory.ooms,
        "crash": None,
        "method": memory.method,
        "verified": memory.verified,
        "notes": progress.notes,
        "probes": [[probe.micro_batch_size, probe.outcome] for probe in run.record.all(PROBES)],
        "elapsed_s": elapsed_s,
    }


def find_maxima(runner: Runner, path: Path, limit_bytes: int) -> list[int]:
    """Return every size near the edge that runs while the next does not, in rising order."""
    tried: dict[int, bool] = {}

    def fits(size: int) -> bool:
        if size not in tried:
            tried[size] = any(_fits(runner, path, limit_bytes, size) for _ in range(TRIES))
        return tried[size]

    low, high = 1, 2
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    reach = max(WINDOW_SIZES, WINDOW_GRANULES * find_granule(low))
    size = max(1, low - reach)
    while size <= low + reach:
        low = size if size > low and fits(size) else low
        fits(size)
        size += 1
    return sorted(size for size, ran in tried.items() if ran and tried.get(size + 1) is False)


def _fits(runner: Runner, path: Path, limit_bytes: int, size: int) -> bool:
    task = MemoryTask(
        workload=WorkloadSpec(target=str(path), device="cpu"),
        micro_batch_size=size,
        capacity_bytes=limit_bytes,
    )
    try:
        (probe,) = runner.run(task, timeout_s=TIMEOUT_S)
    except AdvisorError:  # a library that does not check its allocations crashes
        return False
    assert isinstance(probe, Probe)
    return probe.outcome == "fit"


def measure_cell(runner: Runner, name: str, limit_mib: int, peers: list[str]) -> dict[str, Any]:
    """Return the true maxima of one model under one limit, and every tool's answer."""
    path, limit_bytes = MODELS_PATH / f"{name}.py", limit_mib * MIB
    advisor = measure_advisor(runner, path, limit_bytes)
    maxima = find_maxima(runner, path, limit_bytes)
    largest = maxima[-1]
    start = 1 << largest.bit_length()
    answers = [advisor, *(run_peer(peer, path, limit_bytes, start) for peer in peers)]
    for answer in answers:
        if answer["answer"] is not None:
            answer["share"] = answer["answer"] / largest
            answer["within_granule"] = any(
                0 <= each - answer["answer"] <= find_granule(each) for each in maxima
            )
    return {
        "model": name,
        "limit_mib": limit_mib,
        "true_maximum": largest,
        "maxima": maxima,
        "answers": answers,
    }


def measure_all(models: list[str], limits: list[int], peers: list[str]) -> Iterator[dict[str, Any]]:
    """Yield every cell."""
    for name in models:
        with Runner(parse_target(str(MODELS_PATH / f"{name}.py"))) as runner:
            for limit_mib in limits:
                yield measure_cell(runner, name, limit_mib, peers)


def summarise(cells: list[dict[str, Any]], peer: str) -> dict[str, Any]:
    """Return the figures of one tool over all cells; a crash gives no answer."""
    answers = [each for cell in cells for each in cell["answers"] if each["peer"] == peer]
    answered = [each for each in answers if each["answer"] is not None]
    summary: dict[str, Any] = {
        "peer": peer,
        "cells": len(answers),
        "answered": len(answered),
        "within_granule": sum(each["within_granule"] for each in answered),
        "above_maximum": sum(each["share"] > 1.0 for each in answered),
    }
    if answered:
        shares = [each["share"] for each in answered]
        summary |= {
            "trials_mean": statistics.fmean(each["trials"] for each in answered),
            "trials_max": max(each["trials"] for each in answered),
            "failures_mean": statistics.fmean(each["failures"] for each in answered),
            "failures_max": max(each["failures"] for each in answered),
            "share_mean": statistics.fmean(shares),
            "share_min": min(shares),
            "elapsed_s_mean": statistics.fmean(each["elapsed_s"] for each in answered),
        }
    return summary


def print_cells(cells: list[dict[str, Any]]) -> None:
    """Print each cell's true maxima and answers."""
    table = Table("model", "limit", "true", *(each["peer"] for each in cells[0]["answers"]))
    for cell in cells:
        shown = [
            "crash"
            if each["answer"] is None
            else f"{each['answer']} ({each['trials']}/{each['failures']})"
            for each in cell["answers"]
        ]
        table.add_row(
            cell["model"], f"{cell['limit_mib']} MiB", ", ".join(map(str, cell["maxima"])), *shown
        )
    Console(width=140).print(table)


def print_summaries(summaries: list[dict[str, Any]]) -> None:
    """Print one row for each tool."""
    table = Table(
        "tool",
        "answered",
        "at a maximum",
        "probes",
        "max",
        "OOMs",
        "max",
        "answer/true",
        "least",
    )
    for row in summaries:
        figures = ["-"] * 6
        if row["answered"]:
            figures = [
                f"{row['trials_mean']:.1f}",
                f"{row['trials_max']}",
                f"{row['failures_mean']:.2f}",
                f"{row['failures_max']}",
                f"{row['share_mean']:.3f}",
                f"{row['share_min']:.3f}",
            ]
        answered = f"{row['answered']} of {row['cells']}"
        table.add_row(row["peer"], answered, str(row["within_granule"]), *figures)
    Console(width=140).print(table)


def main() -> None:
    """Measure every cell, print the tables, and save them."""
    parser = argparse.ArgumentParser(description="The largest micro-batch under enforced limits.")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--limits", nargs="+", type=int, default=list(LIMITS_MIB))
    arguments = parser.parse_args()
    peers, missing = list_peers()
    cells = list(measure_all(arguments.models, arguments.limits, peers))
    summaries = [summarise(cells, peer) for peer in ("advisor", *peers)]
    print_cells(cells)
    print_summaries(summaries)
    if missing:
        print(f"not installed, left out: {', '.join(missing)}")
    payload = {"left_out": missing, "summaries": summaries, "cells": cells}
    print(write_results("memory_limits", payload))


if __name__ == "__main__":
    main()
