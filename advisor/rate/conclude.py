"""The learning rate to advise: the best of those that the trial ran and that passed."""

from collections.abc import Mapping, Sequence

import msgspec

from advisor.rate.data import LearningRate
from advisor.rate.trial import TrialVerdict
from advisor.rate.tried import Tried, is_same
from advisor.training.data import WorkloadFacts


class SettledRate(msgspec.Struct, frozen=True, kw_only=True):
    """The rate after the trial.

    Attributes:
        learning_rate: As it may be printed.
        refutation: What a trial showed against every rate that it ran; None where one passed, or
            where none was run.
        base_failed: Whether the user's own pair did not train.
        is_too_short: Whether the trial ended before it could show anything for or against a rate.
        beats_base: Whether the advised pair shows that the base rate is too low.
        is_ranged: Whether the rate comes from a range test, since no base rate is known.
    """

    learning_rate: LearningRate
    refutation: str | None = None
    base_failed: bool = False
    is_too_short: bool = False
    beats_base: bool = False
    is_ranged: bool = False

    @property
    def is_refuted(self) -> bool:
        """Whether rates were tried and none may be advised."""
        return self.refutation is not None


def settle_rate(
    proposed: LearningRate, facts: WorkloadFacts, global_batch_size: int, tried: Tried
) -> SettledRate:
    """Return the rate with the value that the record's trials allow.

    Args:
        proposed: The rule's rate.
        facts: Say why there is no trial, where there is none.
        global_batch_size: The advised batch.
        tried: What the trials show.
    """
    if proposed.proposed is None or proposed.base_value is None:
        return SettledRate(learning_rate=proposed)
    is_base = global_batch_size == proposed.base_batch_size
    batch = tried.batches.get(global_batch_size)
    if batch is None:
        reason = why_not_run(facts)
        if is_base:
            reason += "; at its own batch the base rate needs no scaling"
        return SettledRate(learning_rate=_explain(proposed, reason))
    if is_base and tried.base is not None and not tried.base.passed:
        return _refute(proposed, tried.base)
    settled = settle_tried(proposed, batch.verdicts, batch.best_rate)
    value = settled.learning_rate.value
    if value is None:
        return settled
    reason = settled.learning_rate.reason
    if is_base and is_same(value, proposed.base_value):
        assert tried.base is not None
        reason = (
            f"the advised batch is the base batch, where the base rate stands; {tried.base.reason}"
        )
    rate = msgspec.structs.replace(settled.learning_rate, reason=reason)
    return msgspec.structs.replace(settled, learning_rate=rate)


def why_not_run(facts: WorkloadFacts) -> str:
    """Return why no trial ran, with the rule that this leaves no rate to print."""
    obstacle = "it was not tried before the run ended"
    if facts.is_step_only:
        obstacle = "make_step leaves nothing to try a rate with"
    elif not facts.has_dataset:
        obstacle = "there is no make_dataset to try it on"
    return f"{obstacle}, and no rate is printed that has not been run"


def settle_tried(
    proposed: LearningRate, verdicts: Mapping[float, TrialVerdict], value: float | None
) -> SettledRate:
    """Return the best rate that passed, None where none did, and whether it moved the proposal."""
    if value is None:
        return _refute(proposed, verdicts[min(verdicts)], rates=list(verdicts))
    reason = verdicts[value].reason
    failed = [rate for rate in verdicts if rate > value and not verdicts[rate].passed]
    if failed:
        reason += f"; at {min(failed):.3g} it {verdicts[min(failed)].reason}"
    assert proposed.proposed is not None
    is_moved = not is_same(value, proposed.proposed)
    return SettledRate(
        learning_rate=msgspec.structs.replace(
            proposed,
            value=value,
            reason=reason,
            capped_by="trial" if is_moved and value < proposed.proposed else None,
            raised_by="trial" if is_moved and value > proposed.proposed else None,
        ),
        beats_base=verdicts[value].beats_base,
    )


def _refute(
    proposed: LearningRate, verdict: TrialVerdict, rates: Sequence[float] = ()
) -> SettledRate:
    """Return the proposal without a value, and what the trial showed against it, if anything."""
    reason = verdict.reason
    if verdict.is_too_short:
        subject = f"the rate {min(rates):.3g} " if rates and reason.startswith("was run") else ""
        reason = f"the trial was cut short: {subject}{reason}"
        return SettledRate(learning_rate=_explain(proposed, reason), is_too_short=True)
    if not verdict.base_failed:
        span = " to ".join(dict.fromkeys(f"{rate:.3g}" for rate in (max(rates), min(rates))))
        reason = f"none of the rates tried ({span}) trained; the lowest {verdict.reason}"
    return SettledRate(
        learning_rate=_explain(proposed, reason),
        refutation=reason,
        base_failed=verdict.base_failed,
    )


def _explain(proposed: LearningRate, reason: str) -> LearningRate:
    return msgspec.structs.replace(proposed, value=None, reason=reason)
