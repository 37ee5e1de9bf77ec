"""How often does the gate cry wolf, and how often does it miss? Simulated checks with known truth.

Run: python benchmarks/gate_simulation.py. Sessions are drawn on the log scale around a machine's
speed: the same in all, in two groups, or moving away while it is checked (a fixed product, timed
beside the sessions, moves with it). A check takes its looks as the command does. Beside it the
rules of others on the same numbers: a fixed threshold on means, pytest-benchmark's compare-fail,
a t-test on single steps, and nvbench-compare's rule.
"""

import itertools
import math
import random
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from results import write_results
from scipy import stats

from advisor.device.data import DeviceFacts, Environment
from advisor.gate.data import Occasion, Session, Setting
from advisor.gate.plan import compare, is_decided
from advisor.gate.verdict import BASELINE_SESSIONS as OLD_SESSIONS
from advisor.gate.verdict import LOOKS

CASES = 2000
BLOCKS, STEPS = 3, 20
#: Of single steps around their session's mean, and of the product around the machine's speed.
STEP_SPREAD, PRODUCT_SPREAD = 0.02, 0.005

Draw = Callable[[random.Random, int], float]


class Machine(NamedTuple):
    """A machine by the log of its slowness in its n-th session, and what of that the product sees.

    Attributes:
        own: Of a session alone.
        drift: Of the machine, which the product sees as well; also by the session's number.
    """

    name: str
    own: Draw
    drift: Draw = lambda _, __: 0.0


def _normal(spread: float) -> Draw:
    return lambda rng, _: rng.gauss(0.0, spread)


MACHINES = (
    Machine("spread 0.3 %", _normal(0.003)),
    Machine("spread 1 %", _normal(0.01)),
    Machine("spread 3 %", _normal(0.03)),
    Machine("two speeds 6 % apart", lambda rng, _: rng.gauss(0.06 * (rng.random() < 0.3), 0.003)),
    Machine("drifting by 1 % a session", _normal(0.005), lambda _, n: 0.01 * n),
)
SLOWDOWNS = (0.0, 0.02, 0.05, 0.10)
SETTING = Setting(
    target="model.py",
    micro_batch_size=32,
    environment=Environment(
        device=DeviceFacts(kind="cpu", name="cpu", memory_bytes=2**34, available_bytes=2**34),
        torch="2", python="3", platform="linux", cpu="cpu", cpu_threads=2,
    ),
)  # fmt: skip


def draw_session(rng: random.Random, machine: Machine, number: int, slowdown: float) -> list[float]:
    """Return seconds of single steps, blocks one after the other, and last the product's."""
    drift = machine.drift(rng, number)
    level = machine.own(rng, number) + drift + math.log1p(slowdown)
    steps = [math.exp(level + rng.gauss(0.0, STEP_SPREAD)) for _ in range(BLOCKS * STEPS)]
    return [*steps, math.exp(drift + rng.gauss(0.0, PRODUCT_SPREAD))]


def make_occasion(sessions: Sequence[Sequence[float]], numbers: Sequence[int]) -> Occasion:
    """Return what the tool would have kept of such sessions."""
    return Occasion(
        recorded_at="",
        tool_version="",
        setting=SETTING,
        sessions=tuple(
            Session(
                number=number,
                step_s=tuple(
                    statistics.fmean(each[at * STEPS : (at + 1) * STEPS]) for at in range(BLOCKS)
                ),
                product_s=(each[-1],),
            )
            for number, each in zip(numbers, sessions, strict=False)
        ),
    )


def check(old: list[list[float]], new: list[list[float]], *, in_turns: bool) -> str:
    """Return the outcome of the command's rule, its looks taken as it takes them."""
    for look in LOOKS:
        was = old[:look] if in_turns else old
        numbers = number_sessions(in_turns=in_turns)
        sides = [make_occasion(*each) for each in zip((was, new[:look]), numbers, strict=True)]
        found = compare(sides[:1], sides[1:], in_turns=in_turns)
        if is_decided(found):
            break
    return found.outcome


def _means(sessions: list[list[float]]) -> list[float]:
    return [statistics.fmean(each[:-1]) for each in sessions]


def _steps(sessions: list[list[float]]) -> list[float]:
    return [step for each in sessions for step in each[:-1]]


def fixed_threshold(old: list[list[float]], new: list[list[float]]) -> bool:
    """Return whether the mean is 5 % up, as a usual shell script has it."""
    return statistics.fmean(_means(new)) > 1.05 * statistics.fmean(_means(old))


def pytest_benchmark(old: list[list[float]], new: list[list[float]]) -> bool:
    """Return whether `--benchmark-compare-fail=min:5%` fails, of one session a side."""
    return min(new[0][:-1]) > 1.05 * min(old[0][:-1])


def step_t_test(old: list[list[float]], new: list[list[float]]) -> bool:
    """Return whether a t-test on single steps finds the new side slower at 5 %."""
    return float(stats.ttest_ind(_steps(new), _steps(old), alternative="greater").pvalue) < 0.05


def nvbench_compare(old: list[list[float]], new: list[list[float]]) -> bool:
    """Return whether the means of one session differ by more than the smaller relative noise."""
    means = [statistics.fmean(side[0][:-1]) for side in (old, new)]
    noise = min(
        statistics.stdev(side[0][:-1]) / mean for side, mean in zip((old, new), means, strict=True)
    )
    return means[1] / means[0] - 1.0 > noise


OTHERS = (fixed_threshold, pytest_benchmark, step_t_test, nvbench_compare)


def number_sessions(*, in_turns: bool) -> tuple[Sequence[int], Sequence[int]]:
    """Return when the sessions of each side come: one side first, or A B B A."""
    if not in_turns:
        return range(OLD_SESSIONS), range(OLD_SESSIONS, OLD_SESSIONS + LOOKS[-1])
    turns = range(2 * LOOKS[-1])
    old = [n for n in turns if n % 4 in {0, 3}]
    return old, [n for n in turns if n not in old]


def simulate(
    machine: Machine, slowdown: float, *, in_turns: bool = False, cases: int = CASES
) -> dict[str, Any]:
    """Return the share of each outcome of ours, and of FAIL by the rules of others."""
    rng, outcomes, others = random.Random(1), Counter[str](), Counter[str]()
    numbers = number_sessions(in_turns=in_turns)
    for _ in range(cases):
        old = [draw_session(rng, machine, n, 0.0) for n in numbers[0]]
        new = [draw_session(rng, machine, n, slowdown) for n in numbers[1]]
        outcomes[check(old, new, in_turns=in_turns)] += 1
        first = [side[: LOOKS[0]] for side in (old, new)]
        others.update(rule.__name__ for rule in OTHERS if rule(*first))
    return {
        "ours": {name: count / cases for name, count in sorted(outcomes.items())},
        "others_fail": {rule.__name__: others[rule.__name__] / cases for rule in OTHERS},
    }


def main() -> None:
    """Print and save every cell."""
    table = {}
    for machine, slowdown, in_turns in itertools.product(MACHINES, SLOWDOWNS, (False, True)):
        how = "in turns" if in_turns else "baseline"
        name = f"{machine.name}, slower by {slowdown:.0%}, {how}"
        cell = table[name] = simulate(machine, slowdown, in_turns=in_turns)
        ours = " ".join(f"{name} {100 * share:.1f}" for name, share in cell["ours"].items())
        fails = " ".join(f"{100 * share:.1f}" for share in cell["others_fail"].values())
        print(f"{name:52} {ours:50} others fail: {fails}", flush=True)
    print(write_results("gate_simulation", {"cases": CASES, "cells": table}))


if __name__ == "__main__":
    main()
