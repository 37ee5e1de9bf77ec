"""Predicted memory and the largest batch, against loops written by hand, over a table of trainings.

Twelve kinds of model × fp32, bf16, fp16 × AdamW over all tensors at once, fused AdamW, SGD × two
cards, on the pretended cards of `tests/stand_in/cuda`: the caching allocator is torch's own, and
the kernels cost nothing. Each cell: the peaks that a trace and the simulated allocator predict at
one size, and those of a loop with fresh batches and held outputs. The searches are in one cell of
each kind and card: the largest batch that the memory stage finds under a limit, and around it every
size that such a loop runs.

Run: python benchmarks/memory_table.py [--kinds NAME ...] [--parts cells searches]. It writes
`results/memory_table.json` after each kind and part; other rows that stand there stay.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from memory_limits import Silent
from results import write_results
from rich.console import Console
from rich.table import Table
from throughput_against_loop import is_pretended

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from advisor.device.catalogue import Gpu, find_gpu
from advisor.engine.record import open_record
from advisor.engine.run import Run
from advisor.engine.runner import Runner
from advisor.engine.spec import Limits, Spec
from advisor.engine.task import EnvironmentTask, InspectTask
from advisor.errors import AdvisorError
from advisor.memory.data import PROBES
from advisor.memory.plan import MEMORY
from advisor.memory.stage import measure_base, run_memory
from advisor.questions import RUN
from advisor.training.data import Precision, parse_target
from benchmarks.table.by_hand import Loop, LoopsTask
from benchmarks.table.cells import MIB, PATH, TIMEOUT_S, compare, describe, trace_all
from benchmarks.table.workload import KINDS, OPTIMIZERS

RESULTS = Path(__file__).resolve().parent / "results" / "memory_table.json"
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16")
#: By the catalogue's name: compute capability and multiprocessors.
CARDS = {"H100 SXM": ("90", "132"), "A100 80GB SXM": ("80", "108")}
#: A prediction holds where it is off by no more than this.
ALLOCATED_WITHIN, RESERVED_WITHIN = 0.01, 0.03
#: Of the searches, so that the largest batch is some hundred samples.
LIMIT_BYTES, BUDGET_S = 768 * MIB, 86_400.0
#: Around the answer every size is tried, so far on either side.
REACH_FRACTION = 0.02


def set_card(name: str, path: Path) -> Gpu:
    """Make this the card of all processes from here on, and return it."""
    capability, multiprocessors = CARDS[name]
    lines = {
        "NAME": name,
        "CAPABILITY": capability,
        "MULTIPROCESSORS": multiprocessors,
        "STATE": str(path.with_name("processes")),
    }
    path.write_text("".join(f"STAND_IN_{key}={value}\n" for key, value in lines.items()))
    return find_gpu(name)


def search(
    runner: Runner, gpu: Gpu, kind: str, precision: Precision, optimizer: str
) -> dict[str, Any]:
    """Return what the memory stage answers, and which sizes around it a loop runs."""
    workload = describe(kind, precision, optimizer)
    limits = Limits(memory_limit_bytes=LIMIT_BYTES, headroom_bytes=0, budget_s=BUDGET_S)
    spec = Spec(workload=workload, limits=limits)
    run = Run(
        spec,
        record=open_record(RUN.record_type, spec, kind="run", argv=()),
        runner=runner,
        progress=Silent(),
        save=lambda _record: None,
    )
    (environment,) = runner.run(EnvironmentTask(device="cuda"), timeout_s=TIMEOUT_S)
    (facts,) = runner.run(InspectTask(workload=workload), timeout_s=TIMEOUT_S)
    run.keep_environment(environment)
    run.keep_workload(facts)
    run.plan(measure_base(run))
    run_memory(run)
    memory = run.of(MEMORY)
    assert memory is not None
    answer = memory.max_micro_batch_size or 0
    reach = max(2, round(REACH_FRACTION * answer))
    step = max(1, reach // 4)
    sizes = [size for size in range(answer - 2 * step, answer + reach + 1, step) if size > 0]
    ran = find_fits(runner, kind, precision, optimizer, sizes)
    return {
        "kind": kind,
        "card": gpu.name,
        "precision": precision,
        "optimizer": optimizer,
        "answer": answer,
        "verified": memory.verified,
        "method": memory.method,
        "probes": memory.probes,
        "ooms": memory.ooms,
        "holds_in_a_loop": ran[answer],
        "largest_in_a_loop": max((size for size, is_there in ran.items() if is_there), default=0),
        "sizes_tried": [[size, is_there] for size, is_there in ran.items()],
        "tried": [[probe.micro_batch_size, probe.outcome] for probe in run.record.all(PROBES)],
    }


def find_fits(
    runner: Runner, kind: str, precision: Precision, optimizer: str, sizes: Sequence[int]
) -> dict[int, bool]:
    """Return for each size whether a loop runs under the limit."""
    loops = tuple(
        Loop(
            kind=kind,
            optimizer=optimizer,
            precision=precision,
            size=size,
            limit_bytes=LIMIT_BYTES,
            steps=8,
        )
        for size in sizes
    )
    counted = runner.run(LoopsTask(loops=loops), timeout_s=TIMEOUT_S)
    return {
        size: each.allocated_bytes is not None for size, each in zip(sizes, counted, strict=True)
    }


def run_cells(runner: Runner, path: Path, kind: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each cell of a kind."""
    loops = tuple(
        Loop(kind=kind, optimizer=optimizer, precision=precision, size=KINDS[kind].size)
        for precision, optimizer in itertools.product(PRECISIONS, OPTIMIZERS)
    )
    traces = trace_all(runner, loops)
    for card in CARDS:
        gpu = set_card(card, path)
        counted = runner.run(LoopsTask(loops=loops), timeout_s=TIMEOUT_S)
        for loop, trace, each in zip(loops, traces, counted, strict=True):
            yield compare(gpu, loop, trace, each)


def run_searches(runner: Runner, path: Path, kind: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each card; precisions and optimizers take turns from kind to kind."""
    cells = list(itertools.product(PRECISIONS, OPTIMIZERS))
    first = 2 * list(KINDS).index(kind)
    for place, card in enumerate(CARDS):
        precision, optimizer = cells[(first + place) % len(cells)]
        yield search(runner, set_card(card, path), kind, precision, optimizer)


PARTS = {"cells": run_cells, "searches": run_searches}


def read_rows() -> dict[str, list[dict[str, Any]]]:
    """Return the rows there are: those of kinds that are not run again stay."""
    if not RESULTS.exists():
        return {part: [] for part in PARTS}
    found = json.loads(RESULTS.read_text())["results"]
    return {part: found[part] for part in PARTS}


def summarise(cells: Sequence[dict[str, Any]], searches: Sequence[dict[str, Any]]) -> Any:
    """Return the shares of predictions that hold, and the cost of searches."""
    cells, searches = ([row for row in rows if "error" not in row] for rows in (cells, searches))
    summary: dict[str, Any] = {"cells": len(cells), "searches": len(searches)}
    for name, within in (("allocated", ALLOCATED_WITHIN), ("reserved", RESERVED_WITHIN)):
        errors = [abs(row[f"{name}_error_fraction"]) for row in cells]
        if errors:
            held = sum(error <= within for error in errors)
            summary[f"{name}_within_{within:g}_fraction"] = held / len(errors)
    if searches:
        summary |= {
            "mean_probes": statistics.fmean(row["probes"] for row in searches),
            "mean_ooms": statistics.fmean(row["ooms"] for row in searches),
            "holds_in_a_loop": sum(row["holds_in_a_loop"] for row in searches),
            "mean_share_of_largest": statistics.fmean(
                row["answer"] / row["largest_in_a_loop"]
                for row in searches
                if row["holds_in_a_loop"]
            ),
        }
    return summary


def print_tables(cells: Sequence[dict[str, Any]], searches: Sequence[dict[str, Any]]) -> None:
    """Print both, a line for each row."""
    table = Table("kind", "card", "precision", "optimizer", "trace", "allocated", "reserved")
    for row in cells:
        table.add_row(*([row["kind"], row["error"]] if "error" in row else describe_cell(row)))
    Console(width=140).print(table)
    table = Table("kind", "card", "precision", "optimizer", "answer", "in a loop", "probes / OOMs")
    for row in searches:
        if "error" in row:
            table.add_row(row["kind"], row["error"])
            continue
        names = (row[name] for name in ("kind", "card", "precision", "optimizer"))
        largest = str(row["largest_in_a_loop"])
        table.add_row(*names, str(row["answer"]), largest, f"{row['probes']} / {row['ooms']}")
    Console(width=140).print(table)


def describe_cell(row: dict[str, Any]) -> list[str]:
    """Return the cells of its line."""
    errors = (row[f"{name}_error_fraction"] for name in ("allocated", "reserved"))
    names = ("kind", "card", "precision", "optimizer", "trace")
    return [*(row[name] for name in names), *(f"{error:+.2%}" for error in errors)]


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    arguments = parser.parse_args()
    if not is_pretended():
        parser.error("this is for pretended cards: benchmarks/gpu.py is for real ones")
    rows = read_rows()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "settings")
        os.environ["STAND_IN_SETTINGS"] = str(path)
        set_card(next(iter(CARDS)), path)
        with Runner(parse_target(str(PATH))) as runner:
            for kind, part in itertools.product(arguments.kinds, arguments.parts):
                kept = [row for row in rows[part] if row["kind"] != kind]
                found: list[dict[str, Any]] = []
                try:
                    found += PARTS[part](runner, path, kind)
                except AdvisorError as error:
                    print(f"{kind}: {error.message}", file=sys.stderr)
                    found.append({"kind": kind, "error": error.message})
                rows[part] = [*kept, *found]
                write_results("memory_table", {"summary": summarise(**rows), **rows})
                print(kind, part, len(found), file=sys.stderr, flush=True)
    print_tables(**rows)
    print(summarise(**rows))


if __name__ == "__main__":
    main()
