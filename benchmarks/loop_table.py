"""What the cells of the benchmark come to: a Markdown table, and the lines that must hold."""

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

#: Time of the advised over that of the base pair, where the advice counts as not slower.
MOST_RATIO = 1.05
MOST_MEDIAN_REGRET, MOST_REGRET = 1.10, 1.25
#: Factor between the printed and the real ratio.
MOST_PROMISE_FACTOR = 1.25
LEAST_COVERAGE = 0.85
#: Largest over least real time of repeats, and what each of some repeats must be below.
MOST_SPREAD = 1.15
MOST_REPEATED = {"digits/loader/constant/own": MOST_RATIO, "digits/memory/constant/own": 0.9}

Cells = Mapping[str, dict[str, Any]]


def is_judged(key: str) -> bool:
    """Return whether a cell counts: repeats and what the tool is not told of stand apart."""
    return "#" not in key and "untold" not in key


def draw_table(cells: Cells) -> str:
    """Return a row for each cell but repeats, as Markdown."""
    lines = [
        "| task | loop | schedule, base rate | base → advised | printed | real | regret |",
        "|---|---|---|---|---|---|---|",
    ]
    for key, cell in sorted(cells.items()):
        if "#" in key:
            continue
        task, loop, schedule, base = key.split("/")
        own, pair = cell["base"], cell["pair"]
        change = "stays" if cell["is_stay"] else f"{pair['batch']} at {pair['rate']:.3g}"
        start = f"{own['batch']} at {own['rate']:.3g}"
        lines.append(
            f"| {task} | {loop} | {schedule}, {base} | {start} → {change} "
            f"| {_tell_promise(cell)} | {_tell(cell['ratio'])} | {_number(cell['regret'])} |"
        )
    return "\n".join(lines)


def print_verdict(cells: Cells) -> None:
    """Print a line for each condition, with whether it holds."""
    judged = {key: cell for key, cell in cells.items() if is_judged(key)}
    if not judged:
        return
    ratios = {key: _or_infinite(cell["ratio"]["point"]) for key, cell in judged.items()}
    regrets = [_or_infinite(cell["regret"]) for cell in judged.values()]
    slower = [key for key in ratios if ratios[key] > MOST_RATIO]
    _line(
        not slower,
        f"advised/base ≤ {MOST_RATIO} in {len(ratios) - len(slower)} of {len(ratios)} cells"
        f" (worst {max(ratios.values()):.2f}); "
        f"stays in {sum(cell['is_stay'] for cell in judged.values())}",
    )
    median, worst = statistics.median(regrets), max(regrets)
    _line(
        median <= MOST_MEDIAN_REGRET and worst <= MOST_REGRET,
        f"regret: median {median:.2f}, worst {worst:.2f}",
    )
    promised = [cell for cell in judged.values() if cell["promise"] is not None]
    factors = [find_factor(cell) for cell in promised]
    kept = sum(factor <= MOST_PROMISE_FACTOR for factor in factors)
    _line(
        kept == len(factors),
        f"printed within {MOST_PROMISE_FACTOR} × of the real ratio in {kept} of {len(factors)}"
        f" (worst {max(factors, default=math.nan):.2f} ×)",
    )
    ranged = [cell for cell in promised if cell["promise"].get("low") is not None]
    covered = sum(is_covered(cell) for cell in ranged)
    _line(
        bool(ranged) and covered >= LEAST_COVERAGE * len(ranged),
        f"printed interval holds the real ratio in {covered} of {len(ranged)}",
    )
    _print_repeats(cells)


def find_factor(cell: dict[str, Any]) -> float:
    """Return the factor, at least 1, between the printed and the real ratio."""
    real, printed = _or_infinite(cell["ratio"]["point"]), cell["promise"]["point"]
    return max(real / printed, printed / real)


def is_covered(cell: dict[str, Any]) -> bool:
    """Return whether the printed interval holds the real ratio."""
    promise, real = cell["promise"], _or_infinite(cell["ratio"]["point"])
    return bool(promise["low"] <= real <= _or_infinite(promise["high"]))


def _print_repeats(cells: Cells) -> None:
    repeats: dict[str, list[float]] = defaultdict(list)
    for key, cell in cells.items():
        if "#" in key:
            repeats[key.split("#")[0]].append(_or_infinite(cell["ratio"]["point"]))
    for key, ratios in sorted(repeats.items()):
        text = ", ".join(_number(ratio) for ratio in sorted(ratios))
        most = MOST_REPEATED.get(key, math.inf)
        bound = "" if math.isinf(most) else f", each at most {most}"
        _line(
            max(ratios) <= MOST_SPREAD * min(ratios) and max(ratios) <= most,
            f"{key}, {len(ratios)} probes: real {text} (within {MOST_SPREAD} ×{bound})",
        )


def _line(holds: bool, text: str) -> None:
    print(f"* {'holds' if holds else 'FAILS'}: {text}")


def _or_infinite(value: float | None) -> float:
    return math.inf if value is None else value


def _number(value: float | None) -> str:
    return "never" if value is None or math.isinf(value) else f"{value:.2f}"


def _tell(estimate: dict[str, Any]) -> str:
    if estimate["point"] is None or estimate["low"] == estimate["high"]:
        return _number(estimate["point"])
    return f"{_number(estimate['point'])} ({_range(estimate)})"


def _tell_promise(cell: dict[str, Any]) -> str:
    promise = cell["promise"]
    if promise is None:
        return "-"
    mark = "" if cell.get("is_measured", True) else ", predicted"
    if promise.get("low") is None:
        return f"{_number(promise['point'])}{mark}"
    return f"{_number(promise['point'])} ({_range(promise)}){mark}"


def _range(estimate: dict[str, Any]) -> str:
    ends: Sequence[Any] = [estimate["low"], estimate["high"]]
    return " to ".join(_number(end) for end in ends)
