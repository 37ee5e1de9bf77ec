"""The batch sizes that a table shows, each with what was measured of it."""

from typing import NamedTuple

from advisor.advice.plan import ADVICE
from advisor.engine.conclusions import Conclusions
from advisor.race.data import PairResult
from advisor.race.plan import RACE, choose_best
from advisor.rate.data import Candidate
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.data import ThroughputPoint

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


def choose_rows(conclusions: Conclusions) -> tuple[Row, ...]:
    """Return the rows by batch size: at most `MAX_ROWS`, the marked and measured ones first."""
    advice, facts = conclusions.of(ADVICE), conclusions.record.workload
    found, race = conclusions.of(THROUGHPUT), conclusions.of(RACE)
    points, pairs = () if found is None else found.points, () if race is None else race.pairs
    measured = {point.micro_batch_size: point for point in points}

    def make(each: Candidate) -> Row:
        is_single = each.gradient_accumulation_steps == 1
        is_advised = advice is not None and each.global_batch_size == advice.global_batch_size
        is_base = facts is not None and each.global_batch_size == facts.base_batch_size
        mark = RECOMMENDED * is_advised + BASE * is_base
        trial, winner = choose_best(pairs, each.global_batch_size), race and race.winner
        if is_advised and winner and winner.global_batch_size == each.global_batch_size:
            trial = winner  # as the headline says
        return Row(mark, each, measured.get(each.micro_batch_size) if is_single else None, trial)

    rows = [
        row
        for row in map(make, () if advice is None else advice.candidates)
        if row.mark
        or row.point is not None
        or (row.candidate.relative_time or 0.0) <= MOST_RELATIVE_TIME
    ]
    covered = {row.candidate.micro_batch_size for row in rows if row.point is not None}
    rows += [
        make(
            Candidate(
                global_batch_size=size,
                micro_batch_size=size,
                gradient_accumulation_steps=1,
                step_s=point.step_s.point or 0.0,
            )
        )
        for size, point in measured.items()
        if size not in covered
    ]
    rows.sort(key=lambda row: (not row.mark, row.trial is None, row.point is None))

    def get_sizes(row: Row) -> tuple[int, int]:
        return row.candidate.global_batch_size, row.candidate.micro_batch_size

    return tuple(sorted(rows[:MAX_ROWS], key=get_sizes))
