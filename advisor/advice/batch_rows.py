"""The rows of the table of batch sizes: which are shown, and what is known of each."""

from typing import NamedTuple

from advisor.advice.data import Recommendation
from advisor.race.data import PairResult, Race
from advisor.race.plan import rank_by_regret
from advisor.rate.data import Candidate
from advisor.throughput.data import ThroughputConclusion, ThroughputPoint

#: Rows that fit on a screen beside the rest of the report; the JSON document has them all.
MAX_ROWS = 14
#: Predicted time to train, over the base pair's, up to which accumulation is shown at all.
MOST_RELATIVE_TIME = 2.0
RECOMMENDED, BASE = ">", "b"


class Row(NamedTuple):
    """One batch; its point is there where it is one micro-batch that was timed.

    Its trial is that of the best rate, where it was trained.
    """

    mark: str
    candidate: Candidate
    point: ThroughputPoint | None
    trial: PairResult | None = None


def choose_rows(
    advice: Recommendation | None,
    throughput: ThroughputConclusion | None,
    race: Race | None,
    base_batch_size: int | None,
) -> tuple[Row, ...]:
    """Return the rows by batch size: at most `MAX_ROWS`, the marked and measured ones first."""
    points = () if throughput is None else throughput.points
    measured = {point.micro_batch_size: point for point in points}

    def make(each: Candidate) -> Row:
        is_single = each.gradient_accumulation_steps == 1
        is_advised = advice is not None and each.global_batch_size == advice.global_batch_size
        mark = RECOMMENDED * is_advised + BASE * (each.global_batch_size == base_batch_size)
        pairs = () if race is None else race.pairs
        own = [pair for pair in pairs if pair.global_batch_size == each.global_batch_size]
        trial = next(iter(rank_by_regret(own)), None)
        return Row(mark, each, measured.get(each.micro_batch_size) if is_single else None, trial)

    rows = [make(each) for each in ([] if advice is None else advice.candidates)]
    rows = [row for row in rows if row.mark or row.point is not None or _is_worth(row.candidate)]
    covered = {row.candidate.micro_batch_size for row in rows if row.point is not None}
    rows += [
        make(_make_candidate(size, point.step_s.point or 0.0))
        for size, point in measured.items()
        if size not in covered
    ]
    ranked = sorted(rows, key=lambda row: (not row.mark, row.trial is None, row.point is None))
    return tuple(
        sorted(
            ranked[:MAX_ROWS],
            key=lambda row: (row.candidate.global_batch_size, row.candidate.micro_batch_size),
        )
    )


def _make_candidate(size: int, step_s: float) -> Candidate:
    return Candidate(
        global_batch_size=size, micro_batch_size=size, gradient_accumulation_steps=1, step_s=step_s
    )


def _is_worth(candidate: Candidate) -> bool:
    """Return whether a size that was not timed is near enough to the best to be shown."""
    return candidate.relative_time is None or candidate.relative_time <= MOST_RELATIVE_TIME
