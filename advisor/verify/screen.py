"""The first screen of a verification: the verdict, why, the batches beside it, and what next."""

import shlex
from collections.abc import Iterator

from advisor.engine.conclusions import Conclusions
from advisor.telling import Screen, State, Status
from advisor.units import format_count, format_duration
from advisor.verify.data import VerdictStatus, VerificationConclusion
from advisor.verify.plan import VERIFICATION_TOPIC
from advisor.verify.tell import (
    LEADS,
    describe_critical_batch,
    describe_start,
    head_verification,
    tabulate,
)

_MOST_CAUTIONS = 2
_STATES: dict[VerdictStatus, State] = {
    "holds": "measured",
    "beaten": "measured",
    "inconclusive": "inconclusive",
}


def draw_up_screen(conclusions: Conclusions) -> Screen:
    """Return the first screen of a verification."""
    found, answer = conclusions.of(VERIFICATION_TOPIC), head_verification(conclusions).answer
    if found is None:
        return Screen(answer=answer)
    facts, needed = conclusions.record.workload, found.critical_batch.needed_seeds
    more = ""
    if needed is not None and facts is not None:
        more = f"bsadvisor verify last {shlex.quote(facts.file)} --seeds {needed}"
    return Screen(
        answer=answer,
        lines=tuple(_list_lines(found)),
        cautions=found.warnings[:_MOST_CAUTIONS],
        table=tabulate(found),
        next_step=more,
    )


def _list_lines(found: VerificationConclusion) -> Iterator[str]:
    verdict = found.verdict
    yield f"{verdict.reason[:1].upper()}{verdict.reason[1:]}."
    if verdict.equal_time_s is not None and verdict.best_batch_size is not None:
        time, best = format_duration(verdict.equal_time_s), format_count(verdict.best_batch_size)
        yield f"After {time} of training batch {best} leads."
    yield f"Critical batch: {describe_critical_batch(found.critical_batch)}."
    yield f"Branches {describe_start(found)}."


def brief_verification(conclusions: Conclusions) -> Status | None:
    """Return the verdict, for the screen of a run that was verified."""
    found = conclusions.of(VERIFICATION_TOPIC)
    if found is None:
        return None
    batch, status = format_count(found.recommended_batch_size), found.verdict.status
    text = f"batch {batch} {LEADS[status]}: {found.verdict.reason}"
    return Status("Verified", text, _STATES[status])
