"""Pairs and what training showed of them, in words."""

from collections.abc import Iterator

from advisor.race.data import PairResult, Race
from advisor.race.plan import LEAST_FRESH
from advisor.rate.data import PairKey
from advisor.telling import Status
from advisor.units import count_of, format_count, format_figure, format_ratio

#: A pair that is slower by more hardly left its first loss, and how much slower says nothing.
MOST_TOLD = 10.0


def name_pair(pair: PairKey) -> str:
    """Return a pair in words."""
    return f"batch {format_count(pair[0])} at {format_figure(pair[1])}"


def describe_gain(result: PairResult) -> str:
    """Return a pair's time over the base pair's, with its interval, or what befell it."""
    ratio = result.time_ratio
    if ratio is None or ratio.point is None:
        return result.reason
    if ratio.point > MOST_TOLD:
        return f"took more than {format_figure(MOST_TOLD)} × the time"
    text = f"took {format_ratio(ratio.point)}"
    if ratio.low is not None and ratio.high is not None:
        text += f" ({format_figure(ratio.low)} to {format_figure(ratio.high)})"
    text += " the time"
    # Of the starts that pick it may be read beyond what was trained, to rank.
    if result.end_time_ratio is not None and result.fresh_starts >= LEAST_FRESH:
        text += f"; {format_figure(result.end_time_ratio)} where the rate falls in the end"
    return text


def brief_race(race: Race | None) -> Status:
    """Return what was trained, in a few words."""
    if race is None or race.base is None or race.does_base_train is None:
        reason = "no pair was trained" if race is None or not race.reason else race.reason
        return Status("Trial", reason, "skipped")
    if not race.does_base_train:
        return Status("Trial", race.reason, "inconclusive")
    if not race.pairs:
        text = "yours alone: there was no time to train another and to confirm it"
        return Status("Trial", text, "skipped")
    starts = sum(pair.starts + pair.fresh_starts for pair in race.pairs)
    pairs = count_of(len(race.pairs), "other pair")
    text = f"{pairs} trained, {starts} runs as long as {race.base_steps:,} steps of yours"
    return Status("Trial", text)


def describe_race(race: Race | None) -> Iterator[str]:
    """Yield one line for each pair that was trained, the base pair first."""
    if race is None or race.base is None or race.does_base_train is None:
        return
    what = "all others are compared with it" if race.does_base_train else race.reason
    yield f"{name_pair(race.base.key)}, {count_of(race.base_steps, 'step')}: {what}"
    for pair in race.pairs:
        count = pair.starts + pair.fresh_starts
        starts = f", {count_of(count, 'start')}" if count else ""
        fresh = f", {pair.fresh_starts} of them fresh" if pair.fresh_starts else ""
        yield f"{name_pair(pair.key)}{starts}{fresh}: {describe_gain(pair)}"
