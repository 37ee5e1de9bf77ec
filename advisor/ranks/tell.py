"""What several ranks cost and gain, in words and a table."""

from advisor.engine.record import Conclusions
from advisor.ranks.data import RankPoint, RanksConclusion
from advisor.ranks.plan import RANKS
from advisor.statistics import Estimate
from advisor.telling import Column, Row, Table, Told
from advisor.units import (
    NOT_MEASURED,
    format_count,
    format_number,
    format_percent,
    format_ratio,
    format_spread,
)


def tell_ranks(conclusions: Conclusions) -> Told:
    """Tell the exchange, the straggler and how speed scales."""
    found = conclusions.of(RANKS)
    if found is None:
        return Told()
    size = format_count(found.global_batch_size)
    said = f"{format_count(found.ranks)} ranks at batch {size} {_tell_exchange(found)}"
    if found.straggler is not None and found.straggler_fraction is not None:
        slower = _write_share(found.straggler_fraction)
        said += f"; rank {found.straggler} is {slower} slower than the others on its own"
    return Told(rows=(Row("Ranks", said),), details=(_draw_up(found),) if found.points else ())


def _tell_exchange(found: RanksConclusion) -> str:
    """Return what the exchange takes; as measured it may be less than nothing, which none is."""
    share = found.exchange_fraction
    if share.high is not None and share.high <= 0.0:
        return "lose no time by their exchange"
    if (share.point or 0.0) <= 0.0:
        most = "" if share.high is None else f": {format_percent(share.high)} of a step at most"
        return f"lose no time that shows by their exchange{most}"
    low = None if share.low is None else max(share.low, 0.0)
    spent = _write_share(Estimate(share.point, low, share.high))
    return f"spend {spent} of a step on their exchange"


def _write_share(share: Estimate) -> str:
    text = format_percent(share.point or 0.0)
    if share.low is None or share.high is None:
        return f"{text} (no interval)"
    return f"{text} ({format_percent(share.low)} to {format_percent(share.high)})"


def _draw_up(found: RanksConclusion) -> Table:
    headers = ("ranks", "batch", "samples/s", "efficiency", "time to train", "GPU time")
    return Table(
        title="Ranks",
        columns=tuple(map(Column, headers)),
        rows=tuple(map(_write_row, found.points)),
        legend="as many samples for each rank; efficiency: over as many single ranks; time and GPU "
        "time: by noise and speed, over those of all ranks; ± 95 % interval",
        is_narrow=True,
    )


def _write_row(point: RankPoint) -> tuple[str, ...]:
    efficiency = point.efficiency.point
    return (
        format_count(point.ranks),
        format_count(point.global_batch_size),
        format_spread(point.samples_per_s),
        NOT_MEASURED if efficiency is None else f"{format_number(100.0 * efficiency)} %",
        *(
            NOT_MEASURED if ratio is None else f"~ {format_ratio(ratio)}"
            for ratio in (point.relative_time, point.relative_cost)
        ),
    )
