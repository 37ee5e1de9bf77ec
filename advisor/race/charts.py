"""The proof as charts: losses of the pair beside the base pair's, and all pairs that were tried."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace

from advisor.race.data import PairResult, Race, Standing
from advisor.race.plan import FRESH, LEAST_FRESH, choose_best
from advisor.race.tell import describe_gain, name_pair
from advisor.race.ways import find_way
from advisor.rate.curves import is_same
from advisor.rate.data import Candidate, PairKey, TrialBranch
from advisor.telling import Chart, Datum, Line, Style
from advisor.units import count_of

_STANDINGS: dict[Standing, tuple[str, Style]] = {
    "confirmed": ("surely faster", "points"),
    "ahead": ("perhaps faster", "points"),
    "behind": ("not faster", "points"),
    "too_short": ("not told", "points"),
    "failed": ("did not train", "failures"),
}


def chart_pairs(race: Race) -> Chart:
    """Return the rates tried at each batch, by what came of them."""

    def place(pair: PairResult) -> Datum:
        return Datum(x=pair.global_batch_size, y=pair.learning_rate, note=describe_gain(pair))

    own = [] if race.base is None else [Datum(x=race.base.key[0], y=race.base.key[1])]
    return Chart(
        title="Rates tried at each batch",
        caption="Each pair of batch and rate that was trained beside the first one, by what came "
        "of it: a pair counts as surely faster only from starts that chose nothing.",
        x_label="global batch, samples",
        y_label="learning rate",
        lines=(
            Line(_name_base(race), tuple(own), "points"),
            *(
                Line(name, tuple(place(p) for p in race.pairs if p.standing == standing), style)
                for standing, (name, style) in _STANDINGS.items()
            ),
        ),
        log_y=True,
    )


def chart_losses(
    race: Race,
    trials: Sequence[TrialBranch],
    *,
    chosen: PairKey,
    ways: Sequence[Candidate],
) -> Iterator[Chart]:
    """Yield the losses of the chosen pair beside the base pair's, over time and over samples.

    Where the base pair itself was chosen, the best of the others stands beside it.
    """
    base, pair = race.base, race.find(chosen) or choose_best(race.pairs)
    if base is None or pair is None:
        return
    keys = (base.key, pair.key)
    sides = [[each for each in trials if is_same(each.key, key)] for key in keys]
    courses, starts = read_courses(sides)
    if not all(courses):
        return
    recommended = ", recommended" * is_same(pair.key, chosen)
    labels = (_name_base(race), f"{name_pair(pair.key)}{recommended}")
    rate = "at a constant rate that falls to 0 in the end"
    if not sides[0][0].decays_from:
        is_constant = sides[0][0].decays_from is None
        rate = "at a constant rate" if is_constant else "along your own schedule"
    caption = (
        f"{name_pair(pair.key).capitalize()} {describe_gain(pair)}; means over "
        f"{count_of(starts, 'start')} {rate}, with the lowest and the highest of them."
    )
    loop = [find_way(ways, size) for size, _ in keys]
    for title, x_label, scales in (
        ("time", "seconds in your loop", [way.sample_s if way else 0.0 for way in loop]),
        ("samples", "samples", [1.0, 1.0]),
    ):
        if all(scales):
            lines = [
                tuple(replace(point, x=scale * float(point.x)) for point in course)
                for course, scale in zip(courses, scales, strict=True)
            ]
            yield Chart(
                title=f"Loss of the trial against {title}",
                caption=caption,
                x_label=x_label,
                y_label="loss",
                lines=tuple(map(Line, labels, lines)),
                log_x=False,
                log_y=all((point.low or 0.0) > 0.0 for course in courses for point in course),
            )


def _name_base(race: Race) -> str:
    return "" if race.base is None else f"{'your ' * race.base.is_own}{name_pair(race.base.key)}"


def read_courses(
    sides: Sequence[Sequence[TrialBranch]],
) -> tuple[list[tuple[Datum, ...]], int]:
    """Return the course of each side, and the number of starts: those that judge, if there are.

    A point is the mean loss over each start's longest branch, where all starts were evaluated, with
    the lowest and highest of them.
    """
    seeds = set.intersection(*({each.seed for each in side} for side in sides))
    fresh = {seed for seed in seeds if seed in FRESH}
    # Branches of other starts have other lengths, so that their means would be of no training.
    seeds = fresh if len(fresh) >= LEAST_FRESH else seeds - fresh
    courses = []
    for side in sides:
        own = sorted((each for each in side if each.seed in seeds), key=lambda each: each.samples)
        longest, found = {each.seed: each for each in own}, dict[int, list[float]]()
        for branch in longest.values():
            for each in branch.evaluations:
                if math.isfinite(each.loss):
                    found.setdefault(each.samples, []).append(each.loss)
        points = (
            Datum(x=samples, y=statistics.fmean(losses), low=min(losses), high=max(losses))
            for samples, losses in sorted(found.items())
            if len(losses) == len(longest)
        )
        courses.append(tuple(points))
    return courses, len(seeds)
