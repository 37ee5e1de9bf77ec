"""What a longer training run says about a size that fitted for a few steps."""

from collections.abc import Sequence

from advisor.engine.conclusions import Conclusions, Topic
from advisor.soak.data import SOAKS, Soak, SoakConclusion
from advisor.soak.growth import LEAST_STEPS, fit_growth

#: Share by which evaluation must exceed training to count as more: page granularity is less.
_LEAST_EXCESS_FRACTION = 0.01
_FAILED = frozenset({"oom", "spill"})


def conclude_soak(soaks: Sequence[Soak]) -> SoakConclusion | None:
    """Return whether the size that was soaked last holds; None where none was.

    It holds where all its steps ran and memory does not rise. Too few steps to tell a leak from
    noise leave it open.

    Args:
        soaks: In the order they ran; each but the last ran out of memory.

    Source: derived.
    """
    if not soaks:
        return None
    last = soaks[-1]
    growth = fit_growth(last.held_bytes)
    tested = len(last.held_bytes) >= LEAST_STEPS
    training, evaluation = last.training_peak_bytes, last.evaluation_peak_bytes
    needs_more = (
        training is not None
        and evaluation is not None
        and evaluation > (1.0 + _LEAST_EXCESS_FRACTION) * training
    )
    return SoakConclusion(
        micro_batch_size=last.micro_batch_size,
        holds=_judge(last, is_growing=growth is not None, tested=tested),
        steps=last.steps,
        evaluations=last.evaluations,
        training_peak_bytes=training,
        evaluation_peak_bytes=evaluation,
        reserve_peak_bytes=last.reserve_peak_bytes,
        is_growth_tested=tested,
        growth_bytes_per_step=growth,
        steps_until_full=None if growth is None else _count_steps_until_full(last, growth.point),
        evaluation_needs_more=needs_more,
        failed=find_failed_sizes(soaks),
        message=last.message,
    )


def find_failed_sizes(soaks: Sequence[Soak]) -> tuple[int, ...]:
    """Return the micro-batches that ran out of memory by their size, in the order they ran.

    A soak whose memory grew until it was full is left out: any size would end so.

    Source: derived.
    """
    return tuple(
        soak.micro_batch_size
        for soak in soaks
        if soak.outcome in _FAILED and fit_growth(soak.held_bytes) is None
    )


def _judge(soak: Soak, *, is_growing: bool, tested: bool) -> bool | None:
    if soak.outcome in _FAILED or is_growing:
        return False
    return True if soak.outcome == "fit" and tested else None


def _count_steps_until_full(soak: Soak, growth_bytes_per_step: float | None) -> int | None:
    """Return the steps after which the peak, rising with what is held, meets the limit."""
    peak = soak.training_peak_bytes
    if peak is None or soak.capacity_bytes is None or not growth_bytes_per_step:
        return None
    # The peak is that of the last steps, those with the most leaked memory.
    left = max(0, soak.capacity_bytes - peak)
    return soak.steps + int(left / growth_bytes_per_step)


def _conclude(conclusions: Conclusions) -> SoakConclusion | None:
    return conclude_soak(conclusions.record.all(SOAKS))


SOAK = Topic("soak", SoakConclusion, _conclude)
