"""The charts over the batch: speed, time to train, memory; and the proof, all pairs and losses."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace

from advisor.advice.batch_table import Row
from advisor.advice.data import Recommendation
from advisor.advice.plan import ADVICE
from advisor.engine.record import Conclusions
from advisor.memory.tell import chart_memory
from advisor.race.data import PairResult, Race, Standing
from advisor.race.plan import FRESH, LEAST_FRESH, RACE, choose_best
from advisor.race.tell import MOST_TOLD, describe_gain, name_pair
from advisor.race.ways import find_way
from advisor.rate.curves import is_same
from advisor.rate.data import TRIALS, Candidate, PairKey, TrialBranch
from advisor.telling import Chart, Datum, Line, Mark, Style
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.tell import chart_speed
from advisor.units import count_of

_STANDINGS: dict[Standing, tuple[str, Style]] = {
    "confirmed": ("surely faster", "points"),
    "ahead": ("perhaps faster", "points"),
    "behind": ("not faster", "points"),
    "too_short": ("not told", "points"),
    "failed": ("did not train", "failures"),
}


def draw_charts(conclusions: Conclusions, rows: Sequence[Row]) -> Iterator[Chart]:
    """Yield the charts that there is something for; `rows` are those of the table of batches."""
    record, advice = conclusions.record, conclusions.of(ADVICE)
    facts, found, race = record.workload, conclusions.of(THROUGHPUT), conclusions.of(RACE)
    candidates = () if advice is None else advice.candidates
    marks: tuple[Mark, ...] = ()
    if advice is not None and facts is not None:
        marks = (Mark("recommended", advice.micro_batch_size * facts.parts),)
    if found is not None:
        is_apart = facts is not None and facts.script is None
        unit = "sample" if facts is None else facts.sample_unit
        data = (
            Datum(x=each.micro_batch_size, y=each.micro_batch_size / each.step_s)
            for each in candidates
            if each.gradient_accumulation_steps == 1 and each.step_s
        )
        loop = Line("in your loop, with its loader", tuple(data), "predicted")
        yield chart_speed(found, *([loop] if is_apart else ()), x_marks=marks, unit=unit)
    if advice is not None:
        yield _chart_time(advice, rows)
    if advice is not None and race is not None:
        chosen = (advice.global_batch_size, advice.learning_rate.value or 0.0)
        yield from chart_losses(race, record.all(TRIALS), chosen=chosen, ways=candidates)
    yield chart_memory(conclusions, marks)


def _chart_time(advice: Recommendation, rows: Sequence[Row]) -> Chart:
    """Return the time to train by the law, and as trained at the best rate of each batch."""
    predicted = tuple(
        Datum(x=one.global_batch_size, y=one.relative_time)
        for one in advice.candidates
        if one.relative_time is not None
    )
    trained = tuple(
        Datum(
            x=row.candidate.global_batch_size,
            y=ratio.point,
            low=ratio.low,
            high=ratio.high,
            note=name_pair(row.trial.key),
        )
        for row in rows
        if row.trial is not None
        and (ratio := row.trial.time_ratio) is not None
        and ratio.point is not None
        and ratio.point <= MOST_TOLD
    )
    near = advice.interval
    marks = [Mark("recommended", advice.global_batch_size)]
    if near.low is not None and near.high is not None and near.low < near.high:
        marks.append(Mark("within 5 % of it", near.low, near.high))
    return Chart(
        title="Time to train against batch",
        caption="Below 1 is faster than your own pair, in your own loop: by the law of the noise, "
        "and as trained in this run at the best rate of each batch, with its 95 % interval.",
        x_label="global batch, samples",
        y_label="time over your own pair's",
        lines=(Line("predicted", predicted, "predicted"), Line("trained", trained, "points")),
        log_y=True,
        x_marks=tuple(marks),
        y_marks=(Mark("your own pair", 1.0),),
    )


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
