"""How often the saturation interval holds the truth, and how far the answer moves with the range.

Run: python benchmarks/saturation_simulation.py [--cases 500] [--laws affine,stairs,...]
     python benchmarks/saturation_simulation.py --outside    laws that the analysis does not know

Step-time laws with a known saturation batch are timed by simulation: the sizes, their refinement
after the first session, the number of sessions (3 to 6) and the analysis are the tool's own.

Noise: a session multiplies all its times by exp(s·u), each size in it by exp(s·e) more, with u and
e standard normal and s the noise of the cell (0.3, 1 or 3 %). One figure stands for all blocks of a
size in a session.

Truth: the smallest batch whose throughput is within 5 % of every larger one. The largest size
probed is 1 to 8 times the truth, evenly on the log scale. Then the range is doubled: at the same
noise (the figures of sizes that both ranges share are the same), and measured afresh.

A grid step is a doubling. Kneedle (Satopää et al. 2011) sees the throughputs of the same sessions.
"""

import argparse
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from advisor.memory.data import Probe
from advisor.throughput.conclude import conclude_throughput
from advisor.throughput.data import ThroughputConclusion
from advisor.throughput.saturation import SATURATION_TOLERANCE_FRACTION
from advisor.throughput.sessions import wants_session
from advisor.throughput.sizes import REFINING_SESSIONS, choose_refinement, choose_sweep
from benchmarks.kneedle import find_knee

NOISES = (0.003, 0.01, 0.03)
LEAST_SESSIONS, MOST_SESSIONS = 3, 6
#: The largest size probed, over the truth, in doublings.
REACH_DOUBLINGS = (0.0, 3.0)
Floats = npt.NDArray[np.float64]


class Case(NamedTuple):
    """A law and what is true of it.

    Attributes:
        step_s: Seconds of a step at each of an array of sizes.
        host_s: Seconds that the host needs to issue a step; None where it is not looked at.
        limit_per_s: Throughput that ever larger batches approach; 0 where it falls instead.
        truth: The true saturation batch.
        largest: The largest size probed.
    """

    step_s: Callable[[Floats], Floats]
    host_s: float | None
    limit_per_s: float
    truth: int
    largest: int


class Measured(NamedTuple):
    """One run of the throughput stage."""

    conclusion: ThroughputConclusion
    sessions: int

    @property
    def answer(self) -> int | None:
        """The saturation batch, None where there is none."""
        return self.conclusion.saturation.batch_size


def draw_affine(rng: np.random.Generator) -> tuple[Callable[[Floats], Floats], float, float | None]:
    """Return t = a + b with a of 0.5 to 50 samples."""
    fixed = 10.0 ** rng.uniform(-0.3, 1.7)
    return lambda sizes: fixed + sizes, 1.0, None


def draw_stairs(rng: np.random.Generator) -> tuple[Callable[[Floats], Floats], float, float | None]:
    """Return t = a + w·ceil(b/w): each started tile of 4 to 128 samples costs as a whole one."""
    tile = round(2.0 ** rng.uniform(2.0, 7.0))
    fixed = 10.0 ** rng.uniform(-0.3, 1.3)
    return lambda sizes: fixed + tile * np.ceil(sizes / tile), 1.0, None


def draw_retrograde(
    rng: np.random.Generator,
) -> tuple[Callable[[Floats], Floats], float, float | None]:
    """Return t = a + b + c·b², whose throughput falls beyond 2 to 20 times a."""
    fixed = 10.0 ** rng.uniform(0.0, 1.7)
    peak = fixed * 10.0 ** rng.uniform(0.3, 1.3)
    return lambda sizes: fixed + sizes + fixed * np.square(sizes / peak), 0.0, None


def draw_host_plateau(
    rng: np.random.Generator,
) -> tuple[Callable[[Floats], Floats], float, float | None]:
    """Return t = max(h, a + b): the host needs h until the device takes longer."""
    host = 10.0 ** rng.uniform(0.7, 2.7)
    fixed = host * rng.uniform(0.0, 0.5)
    return lambda sizes: np.maximum(host, fixed + sizes), 1.0, host


def draw_two_tiles(
    rng: np.random.Generator,
) -> tuple[Callable[[Floats], Floats], float, float | None]:
    """Return t = a + (w·ceil(b/w) + v·ceil(b/v))/2: two tile sizes at once."""
    one, two = (round(2.0 ** rng.uniform(2.0, 7.0)) for _ in range(2))
    fixed = 10.0 ** rng.uniform(-0.3, 1.3)
    return (
        lambda sizes: fixed + (one * np.ceil(sizes / one) + two * np.ceil(sizes / two)) / 2.0,
        1.0,
        None,
    )


def draw_root(rng: np.random.Generator) -> tuple[Callable[[Floats], Floats], float, float | None]:
    """Return t = a + b + d·sqrt(b), whose limit no range shows."""
    fixed, root = 10.0 ** rng.uniform(-0.3, 1.3), rng.uniform(0.5, 4.0)
    return lambda sizes: fixed + sizes + root * np.sqrt(sizes), 1.0, None


def draw_soft_floor(
    rng: np.random.Generator,
) -> tuple[Callable[[Floats], Floats], float, float | None]:
    """Return t = (h⁴ + (a + b)⁴)^¼: a floor that ends softly."""
    floor = 10.0 ** rng.uniform(0.7, 2.7)
    fixed = floor * rng.uniform(0.0, 0.5)
    return lambda sizes: (floor**4 + (fixed + sizes) ** 4) ** 0.25, 1.0, None


LAWS = {
    "affine": draw_affine,
    "stairs": draw_stairs,
    "retrograde": draw_retrograde,
    "host plateau": draw_host_plateau,
}
#: Laws of no kind that the analysis fits.
OUTSIDE = {"two tiles": draw_two_tiles, "root": draw_root, "soft floor": draw_soft_floor}
OUTSIDE_CASES = 120


def draw_case(name: str, seed: int) -> Case:
    """Return one case of a law."""
    kinds = [*sorted(LAWS), *OUTSIDE]
    rng = np.random.default_rng((kinds.index(name), seed))
    step_s, limit_per_s, host_s = {**LAWS, **OUTSIDE}[name](rng)
    truth = find_truth(step_s, limit_per_s)
    largest = math.ceil(truth * 2.0 ** rng.uniform(*REACH_DOUBLINGS))
    return Case(step_s, host_s, limit_per_s, truth, largest)


def find_truth(step_s: Callable[[Floats], Floats], limit_per_s: float) -> int:
    """Return the smallest size within the tolerance of every larger one, by trying them all."""
    sizes = np.arange(1.0, 2.0**14)
    speeds = sizes / step_s(sizes)
    best_beyond = np.maximum(np.maximum.accumulate(speeds[::-1])[::-1], limit_per_s)
    within = speeds >= (1.0 - SATURATION_TOLERANCE_FRACTION) * best_beyond
    return int(sizes[np.argmax(within)])


def run_stage(case: Case, largest: int, noise: float, seed: int) -> Measured:
    """Return what the throughput stage concludes, by the tool's own choices and analysis."""
    sizes = choose_sweep(min_micro_batch_size=1, max_micro_batch_size=largest)
    probes: list[Probe] = []
    conclusion: ThroughputConclusion | None = None
    for session in range(MOST_SESSIONS):
        if conclusion is not None and session >= LEAST_SESSIONS:
            affordable = MOST_SESSIONS - session
            if not wants_session(conclusion, sessions=session, affordable=affordable):
                break
        probes += time_session(case, sizes, noise, session, seed)
        if REFINING_SESSIONS <= session < LEAST_SESSIONS - 1:
            continue
        conclusion = conclude_throughput(
            probes, largest_micro_batch_size=largest, memory_limited=True, peak_bytes={}
        )
        if session < REFINING_SESSIONS:
            sizes = tuple(
                sorted({*sizes, *choose_refinement(conclusion.points, conclusion.saturation)})
            )
    assert conclusion is not None
    return Measured(conclusion, len({probe.session for probe in probes}))


def time_session(
    case: Case, sizes: Sequence[int], noise: float, session: int, seed: int
) -> Iterator[Probe]:
    """Yield one probe for each size; a size's noise depends on session and seed alone."""
    common = noise * np.random.default_rng((seed, session)).standard_normal()
    exact_s = case.step_s(np.asarray(sizes, dtype=np.float64))
    for size, seconds in zip(sizes, exact_s.tolist(), strict=True):
        own = noise * np.random.default_rng((seed, session, size)).standard_normal()
        step_s = seconds * math.exp(common + own)
        # A full launch queue makes issuing as slow as the device.
        enqueue_s = () if case.host_s is None else (0.97 * step_s,)
        yield Probe(
            stage="throughput", session=session, micro_batch_size=size, outcome="fit",
            step_times_s=(step_s,), enqueue_times_s=enqueue_s,
        )  # fmt: skip


def find_knee_of(measured: Measured) -> int | None:
    """Return Kneedle's answer to what was measured."""
    points = measured.conclusion.points
    speeds = [point.samples_per_s.point or 0.0 for point in points]
    return find_knee([point.micro_batch_size for point in points], speeds)


def holds_truth(measured: Measured, truth: int) -> bool:
    """Return whether the interval holds the truth; one without an upper end holds all above."""
    low, high = measured.conclusion.saturation.low, measured.conclusion.saturation.high
    return low is not None and low <= truth and (high is None or truth <= high)


def count_steps(first: int, second: int) -> float:
    """Return how many grid steps (doublings) two sizes are apart."""
    return abs(math.log2(first / second))


def share(hits: Sequence[bool]) -> float | None:
    """Return the share of hits, None of nothing."""
    return sum(hits) / len(hits) if hits else None


def share_near(pairs: Sequence[tuple[int | None, int | None]]) -> float | None:
    """Return the share of the pairs that lie within less than a grid step, where both are known."""
    known = [(first, second) for first, second in pairs if first and second]
    return share([count_steps(first, second) < 1.0 for first, second in known])


def simulate_cell(name: str, noise: float, cases: int) -> dict[str, Any]:
    """Return the figures of one law at one noise."""
    drawn = [draw_case(name, seed) for seed in range(cases)]
    narrow, wide, afresh = (
        [
            run_stage(case, case.largest * factor, noise, seed + shift)
            for seed, case in enumerate(drawn)
        ]
        for factor, shift in ((1, 0), (2, 0), (2, cases))
    )
    truths = [case.truth for case in drawn]
    held = [holds_truth(measured, truth) for measured, truth in zip(narrow, truths, strict=True)]
    intervals = [measured.conclusion.saturation for measured in narrow]
    bounded = [each.batch_size is not None and each.high is not None for each in intervals]
    answers, wide_answers = ([each.answer for each in runs] for runs in (narrow, wide))
    knees, wide_knees = ([find_knee_of(each) for each in runs] for runs in (narrow, wide))
    widths = [
        count_steps(each.high, each.low)
        for each in intervals
        if each.high is not None and each.low is not None
    ]
    return {
        "law": name,
        "noise_fraction": noise,
        "cases": cases,
        "covered_fraction": share(held),
        "answered_fraction": share([answer is not None for answer in answers]),
        "bounded_fraction": share(bounded),
        "covered_where_bounded_fraction": share(
            [hit for hit, is_bounded in zip(held, bounded, strict=True) if is_bounded]
        ),
        "covered_in_doubled_range_fraction": share(
            [holds_truth(measured, truth) for measured, truth in zip(wide, truths, strict=True)]
        ),
        "median_width_grid_steps": float(np.median(widths)) if widths else None,
        "near_truth_fraction": share_near(list(zip(answers, truths, strict=True))),
        "both_answered_fraction": share(
            [None not in pair for pair in zip(answers, wide_answers, strict=True)]
        ),
        "still_fraction": share_near(list(zip(answers, wide_answers, strict=True))),
        "still_afresh_fraction": share_near(
            list(zip(answers, [each.answer for each in afresh], strict=True))
        ),
        "mean_sessions": float(np.mean([measured.sessions for measured in narrow])),
        "statuses": dict(Counter(each.status for each in intervals)),
        "kneedle_found_fraction": share([knee is not None for knee in knees]),
        "kneedle_near_truth_fraction": share_near(list(zip(knees, truths, strict=True))),
        "kneedle_still_fraction": share_near(list(zip(knees, wide_knees, strict=True))),
    }


COLUMNS = {
    "covered": "covered_fraction",
    "answered": "answered_fraction",
    "bounded": "bounded_fraction",
    "covered where bounded": "covered_where_bounded_fraction",
    "width (doublings)": "median_width_grid_steps",
    "within a step of the truth": "near_truth_fraction",
    "still when the range doubles": "still_fraction",
    "still, measured afresh": "still_afresh_fraction",
    "sessions": "mean_sessions",
    "Kneedle within a step": "kneedle_near_truth_fraction",
    "Kneedle still": "kneedle_still_fraction",
}


def main() -> None:
    """Simulate every cell, print the table, write the results."""
    from results import write_results
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, default=500, help="cases of each cell")
    parser.add_argument("--laws", default=",".join(LAWS), help="which laws")
    parser.add_argument("--outside", action="store_true", help="laws that are not fitted")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    results = "saturation_simulation"
    if arguments.outside:
        arguments.laws, arguments.cases = ",".join(OUTSIDE), OUTSIDE_CASES
        results = "saturation_outside"
    rows, table = [], Table("law", "noise", *COLUMNS)
    cells = list(product(arguments.laws.split(","), NOISES))
    with ProcessPoolExecutor(arguments.jobs) as pool:
        cases = repeat(arguments.cases)
        for row in pool.map(simulate_cell, *zip(*cells, strict=True), cases):
            rows.append(row)
            figures = [row[key] for key in COLUMNS.values()]
            table.add_row(
                row["law"],
                f"{100 * row['noise_fraction']:g} %",
                *("-" if figure is None else f"{figure:.3f}" for figure in figures),
            )
            print(row["law"], row["noise_fraction"], row["statuses"], flush=True)
    console = Console(width=150)
    console.print(table)
    if not arguments.no_write:
        console.print(f"written: {write_results(results, rows)}")


if __name__ == "__main__":
    main()
