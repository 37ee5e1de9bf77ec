"""How often the saturation interval holds the truth, and how far the answer moves with the range.

Run: python benchmarks/saturation_simulation.py [--cases 40] [--laws affine,stairs,...]

Three of the laws are of no kind that the analysis fits: two tiles at once, a root whose limit no
range shows, and a floor that ends softly.

Step-time laws with a known saturation batch are timed by simulation: the sizes, their refinement
after the first session, the number of sessions (3 to 6) and the analysis are the tool's own.

Noise: a session multiplies all its times by exp(s·u), each size in it by exp(s·e) more, with u and
e standard normal and s the noise of the cell (0.3, 1 or 3 %). One figure stands for all blocks of a
size in a session.

Truth: the smallest batch whose throughput is within 5 % of every larger one up to the largest size
probed, by trying them all. That size is 1/4 to 8 times the one from which on a doubling gains less
than 5 %, evenly on the log scale: in two of five cases the curve still rises to its end. Then the
range is doubled, at the same noise (the figures of sizes that both ranges share are the same).

A grid step is a doubling. Kneedle (Satopää et al. 2011) sees the throughputs of the same sessions.
"""

import argparse
import math
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
from advisor.throughput.plan import choose_next, choose_sweep
from advisor.throughput.saturation import SATURATION_TOLERANCE_FRACTION, is_settled
from benchmarks.kneedle import find_knee

NOISES = (0.003, 0.01, 0.03)
LEAST_SESSIONS, MOST_SESSIONS = 3, 6
#: The largest size probed, over the least with a flat end, in doublings.
REACH_DOUBLINGS = (-2.0, 3.0)
#: Ranges that are looked at.
LEAST_LARGEST, MOST_LARGEST = 8, 2**13
Floats = npt.NDArray[np.float64]
#: A law of step time, and the seconds that the host needs to issue a step, if that is looked at.
Drawn = tuple[Callable[[Floats], Floats], float | None]


class Case(NamedTuple):
    """A law and what is true of it.

    Attributes:
        step_s: Seconds of a step at each of an array of sizes.
        host_s: Seconds that the host needs to issue a step; None where it is not looked at.
        largest: The largest size probed.
    """

    step_s: Callable[[Floats], Floats]
    host_s: float | None
    largest: int

    def find_truth(self, largest: int) -> int:
        """Return the true saturation batch of that range."""
        return find_truth(self.step_s, largest)

    def measure_last_gain(self, largest: int) -> float:
        """Return what the last doubling of that range truly gains."""
        half_s, whole_s = self.step_s(np.array([math.ceil(largest / 2), largest])).tolist()
        return largest / math.ceil(largest / 2) * half_s / whole_s - 1.0


class Measured(NamedTuple):
    """One run of the throughput stage."""

    conclusion: ThroughputConclusion
    sessions: int

    @property
    def answer(self) -> int | None:
        """The saturation batch, None where there is none."""
        return self.conclusion.saturation.batch_size


def draw_affine(rng: np.random.Generator) -> Drawn:
    """Return t = a + b with a of 0.5 to 50 samples."""
    fixed = 10.0 ** rng.uniform(-0.3, 1.7)
    return lambda sizes: fixed + sizes, None


def draw_stairs(rng: np.random.Generator) -> Drawn:
    """Return t = a + w·ceil(b/w): each started tile of 4 to 128 samples costs as a whole one."""
    tile = round(2.0 ** rng.uniform(2.0, 7.0))
    fixed = 10.0 ** rng.uniform(-0.3, 1.3)
    return lambda sizes: fixed + tile * np.ceil(sizes / tile), None


def draw_retrograde(rng: np.random.Generator) -> Drawn:
    """Return t = a + b + c·b², whose throughput falls beyond 2 to 20 times a."""
    fixed = 10.0 ** rng.uniform(0.0, 1.7)
    peak = fixed * 10.0 ** rng.uniform(0.3, 1.3)
    return lambda sizes: fixed + sizes + fixed * np.square(sizes / peak), None


def draw_host_plateau(rng: np.random.Generator) -> Drawn:
    """Return t = max(h, a + b): the host needs h until the device takes longer."""
    host = 10.0 ** rng.uniform(0.7, 2.7)
    fixed = host * rng.uniform(0.0, 0.5)
    return lambda sizes: np.maximum(host, fixed + sizes), host


def draw_two_tiles(rng: np.random.Generator) -> Drawn:
    """Return t = a + (w·ceil(b/w) + v·ceil(b/v))/2: two tile sizes at once."""
    one, two = (round(2.0 ** rng.uniform(2.0, 7.0)) for _ in range(2))
    fixed = 10.0 ** rng.uniform(-0.3, 1.3)
    return (
        lambda sizes: fixed + (one * np.ceil(sizes / one) + two * np.ceil(sizes / two)) / 2.0,
        None,
    )


def draw_root(rng: np.random.Generator) -> Drawn:
    """Return t = a + b + d·sqrt(b), whose limit no range shows."""
    fixed, root = 10.0 ** rng.uniform(-0.3, 1.3), rng.uniform(0.5, 4.0)
    return lambda sizes: fixed + sizes + root * np.sqrt(sizes), None


def draw_soft_floor(rng: np.random.Generator) -> Drawn:
    """Return t = (h⁴ + (a + b)⁴)^¼: a floor that ends softly."""
    floor = 10.0 ** rng.uniform(0.7, 2.7)
    fixed = floor * rng.uniform(0.0, 0.5)
    return lambda sizes: (floor**4 + (fixed + sizes) ** 4) ** 0.25, None


LAWS = {
    "affine": draw_affine,
    "stairs": draw_stairs,
    "retrograde": draw_retrograde,
    "host plateau": draw_host_plateau,
}
#: Laws of no kind that the analysis fits.
OUTSIDE = {"two tiles": draw_two_tiles, "root": draw_root, "soft floor": draw_soft_floor}
#: Gain of a doubling that the tolerance allows.
TOLERATED = 1.0 / (1.0 - SATURATION_TOLERANCE_FRACTION) - 1.0


def draw_case(name: str, seed: int) -> Case:
    """Return one case of a law."""
    kinds = [*sorted(LAWS), *OUTSIDE]
    rng = np.random.default_rng((kinds.index(name), seed))
    step_s, host_s = {**LAWS, **OUTSIDE}[name](rng)
    largest = math.ceil(find_flat_end(step_s) * 2.0 ** rng.uniform(*REACH_DOUBLINGS))
    return Case(step_s, host_s, max(largest, LEAST_LARGEST))


def find_flat_end(step_s: Callable[[Floats], Floats]) -> int:
    """Return the least size from which on no doubling gains more than the tolerance."""
    sizes = np.arange(1.0, MOST_LARGEST)
    gains = 2.0 * step_s(sizes) / step_s(2.0 * sizes)
    rising = np.flatnonzero((1.0 - SATURATION_TOLERANCE_FRACTION) * gains > 1.0)
    return 2 * int(sizes[rising[-1]] if rising.size else 1)


def find_truth(step_s: Callable[[Floats], Floats], largest: int) -> int:
    """Return the smallest size within the tolerance of every larger one, by trying them all."""
    sizes = np.arange(1.0, largest + 1.0)
    speeds = sizes / step_s(sizes)
    best_beyond = np.maximum.accumulate(speeds[::-1])[::-1]
    within = speeds >= (1.0 - SATURATION_TOLERANCE_FRACTION) * best_beyond
    return int(sizes[np.argmax(within)])


def run_stage(case: Case, largest: int, noise: float, seed: int) -> Measured:
    """Return what the throughput stage concludes, by the tool's own choices and analysis."""
    sizes = choose_sweep(min_micro_batch_size=1, max_micro_batch_size=largest)
    probes: list[Probe] = []
    for session in range(MOST_SESSIONS):
        probes += time_session(case, sizes, noise, session, seed)
        found = conclude_throughput(probes, largest_micro_batch_size=largest, range_end="dataset")
        if session + 1 >= LEAST_SESSIONS and is_settled(found.saturation):
            break
        sizes = choose_next(found, session=session, kept=())
    return Measured(found, session + 1)


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


def holds_truth(measured: Measured, case: Case, largest: int) -> bool:
    """Return whether the interval holds the truth, or that of the last gain where it rises."""
    found, truth = measured.conclusion.saturation, case.find_truth(largest)
    if found.batch_size is None:
        gain, truly = found.last_gain, case.measure_last_gain(largest)
        return gain is not None and gain.low is not None and gain.low <= truly <= (gain.high or 9.9)
    return found.low is not None and found.low <= truth <= (found.high or largest)


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
    narrow, wide = (
        [run_stage(case, case.largest * factor, noise, seed) for seed, case in enumerate(drawn)]
        for factor in (1, 2)
    )
    held, wide_held = (
        [
            holds_truth(each, case, factor * case.largest)
            for each, case in zip(runs, drawn, strict=True)
        ]
        for factor, runs in ((1, narrow), (2, wide))
    )
    found = [measured.conclusion.saturation for measured in narrow]
    truths = [case.find_truth(case.largest) for case in drawn]
    answers, wide_answers = ([each.answer for each in runs] for runs in (narrow, wide))
    knees, wide_knees = ([find_knee_of(each) for each in runs] for runs in (narrow, wide))
    widths = [count_steps(each.high, each.low) for each in found if each.high and each.low]
    return {
        "law": name,
        "noise_fraction": noise,
        "cases": cases,
        "covered_fraction": share([*held, *wide_held]),
        "answered_fraction": share([each.status != "inconclusive" for each in found]),
        "rising_fraction": share([each.status == "rising" for each in found]),
        "right_status_fraction": share(
            [
                (each.status == "rising") == (case.measure_last_gain(case.largest) > TOLERATED)
                for each, case in zip(found, drawn, strict=True)
            ]
        ),
        "bounded_fraction": share([each.high is not None for each in found if each.batch_size]),
        "median_width_grid_steps": float(np.median(widths)) if widths else None,
        "near_truth_fraction": share_near(list(zip(answers, truths, strict=True))),
        "still_fraction": share_near(list(zip(answers, wide_answers, strict=True))),
        "mean_sessions": float(np.mean([measured.sessions for measured in narrow])),
        "statuses": dict(Counter(each.status for each in found)),
        "kneedle_near_truth_fraction": share_near(list(zip(knees, truths, strict=True))),
        "kneedle_still_fraction": share_near(list(zip(knees, wide_knees, strict=True))),
    }


COLUMNS = {
    "covered": "covered_fraction",
    "answered": "answered_fraction",
    "rising": "rising_fraction",
    "status right": "right_status_fraction",
    "bounded": "bounded_fraction",
    "width (doublings)": "median_width_grid_steps",
    "within a step of the truth": "near_truth_fraction",
    "still when the range doubles": "still_fraction",
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
    parser.add_argument("--cases", type=int, default=40, help="cases of each cell")
    parser.add_argument("--laws", default=",".join([*LAWS, *OUTSIDE]), help="which laws")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
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
        console.print(f"written: {write_results('saturation_simulation', rows)}")


if __name__ == "__main__":
    main()
