"""Committed results, and how their figures are written: nothing else knows a number."""

import importlib.util
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

BENCHMARKS = Path(__file__).resolve().parent.parent.parent / "benchmarks"


def read(name: str) -> Any:
    """Return what a benchmark found."""
    return _read_document(name)["results"]


def tell_source(*names: str) -> str:
    """Return the line below a section: the files, their dates and processors."""
    return "\n".join(f"* {_tell_file(name)}" for name in names)


def load_benchmark(name: str) -> ModuleType:
    """Return a benchmark's module without its folder on the path."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _tell_file(name: str) -> str:
    document = _read_document(name)
    moment = datetime.fromisoformat(document["created_at"])
    machine = document["machine"]
    commit = (document["commit"] or "unknown")[:8]
    return (
        f"`benchmarks/results/{name}.json`: {moment:%-d %B %Y}, commit {commit}, "
        f"{machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}"
    )


def _read_document(name: str) -> Any:
    return json.loads((BENCHMARKS / "results" / f"{name}.json").read_text(encoding="utf-8"))


def tell_range(values: Iterable[float], write: Callable[[float], str]) -> str:
    """Return the smallest and the largest, or the one that both are written as."""
    known = list(values)
    low, high = write(min(known)), write(max(known))
    if low == high:
        return low
    unit = "" if not low.endswith(" %") else " %"
    return f"{low.removesuffix(unit)} to {high}"


def percent(fraction: float) -> str:
    """Return a share in whole per cent."""
    return f"{100 * fraction:.0f} %"


def fine_percent(fraction: float) -> str:
    """Return a small share in per cent, to a tenth."""
    return f"{100 * fraction:.1f} %"


def ratio(value: float) -> str:
    """Return a ratio to a hundredth."""
    return f"{value:.2f}"


def rough_ratio(value: float) -> str:
    """Return a ratio to a tenth."""
    return f"{value:.1f}"


def tell_interval(estimate: Mapping[str, float] | None) -> str:
    """Return a printed ratio with its interval."""
    if estimate is None:
        return "-"
    low, high = ratio(estimate["low"]), ratio(estimate["high"])
    return f"{ratio(estimate['point'])} ({low} to {high})"


def tell_pair(pair: Sequence[float]) -> str:
    """Return batch and rate."""
    return f"{pair[0]:g} at {pair[1]:.3g}"


def draw_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
