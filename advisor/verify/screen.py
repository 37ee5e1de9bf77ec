"""The first screen of a verification: the verdict, why, the batches beside it, and what next."""

import shlex
from collections.abc import Iterator

from advisor.engine.conclusions import Conclusions
from advisor.telling import Screen, Status
from advisor.units import begin_sentence, format_count, format_duration
from advisor.verify.data import VerificationConclusion
from advisor.verify.plan import VERIFICATION_TOPIC
from advisor.verify.tell import (
    describe_critical_batch,
    describe_start,
    describe_verdict,
    head_verification,
    tabulate,
)

_MOST_CAUTIONS = 2


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
    yield f"{begin_sentence(verdict.reason)}."
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
    is_open = found.verdict.status == "inconclusive"
    return Status("Verified", describe_verdict(found), "inconclusive" if is_open else "measured")
