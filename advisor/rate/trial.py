"""The verdict of a trial: whether a batch and rate train as well as the user's own pair.

A scaling rule extrapolates, and no local quantity tells how far it may: on scikit-learn's digits
with a small perceptron (SGD, rate 1 at batch 32) the rule proposes 1.7 at batch 128, which does not
train, while 1.4 does; the curvature along good runs forbids both. So short runs decide.
"""

import statistics
from collections.abc import Sequence

import msgspec

from advisor.rate.data import Evaluation, TrialBranch
from advisor.rate.trial_curves import (
    average_curves,
    get_first_loss,
    has_diverged,
    interpolate_loss,
    summarise_end,
)

#: Fewest starts that both pairs share: below, one lucky start would decide.
LEAST_SEEDS = 3
#: Share of the base's fall in loss that every start must reach, else it stalled.
STALL_FRACTION = 0.5
#: Share of the base's fall in loss by which the mean over starts may end above the base, on top of
#: the base's own spread over starts.
TOLERANCE_FRACTION = 0.05
#: Share of the range test's fall that every start must reach where there is no base pair.
LEAST_FALL_FRACTION = 0.1
#: Share of its own fall by which a start may end above its lowest loss, likewise.
RISE_FRACTION = 0.25


class TrialVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial showed.

    Attributes:
        passed: Whether the pair may be advised.
        reason: One sentence without its full stop.
        base_failed: Whether the user's own pair does not train, so that nothing can be judged.
        is_too_short: Whether the trial ended before it could show anything; it then says nothing
            against either pair.
        beats_base: Whether the pair ends clearly below the user's own at equal samples, as only a
            base rate that is too low explains.
        fails_further: Whether it passed from the starts that the base pair shares, and failed from
            another.
        end_loss: Of a pair that passed, the mean over the starts that the base pair shares.
        curve: Its loss along the branch, likewise.
    """

    passed: bool
    reason: str
    base_failed: bool = False
    is_too_short: bool = False
    beats_base: bool = False
    fails_further: bool = False
    end_loss: float | None = None
    curve: tuple[Evaluation, ...] = ()


def judge_base(base: Sequence[TrialBranch]) -> TrialVerdict:
    """Return whether the user's own pair trains: from every start, the loss ends below its first.

    Args:
        base: The branches of one batch and rate, one for each start.

    Source: derived.
    """
    usable = [branch for branch in base if branch.evaluations]
    diverged = sum(has_diverged(branch) for branch in usable)
    if diverged:
        return TrialVerdict(
            passed=False,
            base_failed=True,
            reason=f"the base rate itself diverged from {diverged} of {len(usable)} starts",
        )
    if len({branch.seed for branch in usable}) < LEAST_SEEDS:
        return TrialVerdict(
            passed=False,
            is_too_short=True,
            reason=f"the base pair was run from fewer than {LEAST_SEEDS} starts",
        )
    stalled = sum(summarise_end(branch).loss >= get_first_loss(branch) for branch in usable)
    if stalled:
        return TrialVerdict(
            passed=False,
            base_failed=True,
            reason=f"at the base rate itself {stalled} of {len(usable)} starts did not improve",
        )
    return TrialVerdict(
        passed=True,
        reason=f"the base pair trains from {len(usable)} starts",
        end_loss=statistics.fmean(summarise_end(branch).loss for branch in usable),
        curve=average_curves(usable),
    )


def judge_trial(
    base: Sequence[TrialBranch], tried: Sequence[TrialBranch], noise_scale: float | None
) -> TrialVerdict:
    """Return whether the tried pair trains as well as the base pair at equal samples.

    A larger batch needs more samples, (1 + B/φ)/(1 + B0/φ) times as many, so the end of the tried
    branch is compared with the base's curve that much earlier; for a smaller batch with its end. An
    unknown φ allows nothing: that is the limit of a large φ, on which the rule without φ rests.

    It fails if a start diverged; if a start's loss fell by less than half of what the base's fell
    from the same start; or if the mean over starts ends above the base's by more than 5 % of the
    base's fall plus the base's standard deviation over starts. A start that the base was not
    trained from must not diverge or stall either, the latter against the base's mean fall; the
    means and the curve are over shared starts.

    Args:
        base: The user's own pair, one branch for each start.
        tried: The pair to judge, from the same starts, over about as many samples.
        noise_scale: φ in samples; None where it is unknown.

    Source: derived; the handicap is McCandlish et al. 2018, arXiv:1812.06162: E(B) ∝ 1 + B/φ.
    """
    verdict = judge_base(base)
    if not verdict.passed:
        return verdict
    pairs, further = _pair_starts(base, tried)
    verdict = _judge_pairs(pairs, noise_scale)
    if not verdict.passed or not further:
        return verdict
    falls = [get_first_loss(own) - _read_base(own, branch, noise_scale) for own, branch in pairs]
    starts = f"{len(further)} further starts"
    diverged = sum(map(has_diverged, further))
    if diverged:
        return _fail(f"diverged from {diverged} of {starts}", fails_further=True)
    stalled = sum(_has_stalled(branch, statistics.fmean(falls)) for branch in further)
    if stalled:
        return _fail(f"stalled from {stalled} of {starts}", fails_further=True)
    return msgspec.structs.replace(verdict, reason=f"{verdict.reason}; trained from {starts}")


def _judge_pairs(
    pairs: Sequence[tuple[TrialBranch, TrialBranch]], noise_scale: float | None
) -> TrialVerdict:
    """Return what the starts show from which both pairs were trained; the base's branch first."""
    diverged = sum(has_diverged(branch) for _, branch in pairs)
    if diverged:
        return _fail(f"diverged from {diverged} of {len(pairs)} starts")
    if len(pairs) < LEAST_SEEDS:
        return TrialVerdict(
            passed=False,
            is_too_short=True,
            reason=f"was run from {len(pairs)} starts only; {LEAST_SEEDS} are needed",
        )
    ends = [summarise_end(branch).loss for _, branch in pairs]
    reference = [_read_base(own, branch, noise_scale) for own, branch in pairs]
    falls = [get_first_loss(own) - loss for (own, _), loss in zip(pairs, reference, strict=True)]
    stalled = sum(
        _has_stalled(branch, fall) for (_, branch), fall in zip(pairs, falls, strict=True)
    )
    if stalled:
        return _fail(f"stalled from {stalled} of {len(pairs)} starts")
    end, expected = statistics.fmean(ends), statistics.fmean(reference)
    margin = TOLERANCE_FRACTION * abs(statistics.fmean(falls)) + statistics.stdev(reference)
    figures = f"loss {end:.3g} where the base pair gives {expected:.3g}"
    if end - expected > margin:
        return _fail(f"ended clearly above the base pair: {figures}")
    return TrialVerdict(
        passed=True,
        reason=f"trained from {len(pairs)} starts: {figures}",
        beats_base=_is_clearly_below(pairs, margin),
        end_loss=end,
        curve=average_curves([branch for _, branch in pairs]),
    )


def judge_alone(branches: Sequence[TrialBranch], *, fall: float) -> TrialVerdict:
    """Return whether a rate trains, where there is no base pair to compare it with.

    It fails if a start diverged; if a start's loss fell by less than a tenth of what it fell in the
    range test, or by less than half of the median over starts; or if a start ends above its own
    lowest loss by more than a quarter of its fall: it is then on its way up again.

    Args:
        branches: Of one batch and rate, one for each start.
        fall: How far the smoothed loss fell in the range test.

    Source: derived.
    """
    usable = [branch for branch in branches if branch.evaluations]
    diverged = sum(has_diverged(branch) for branch in branches)
    if diverged:
        return _fail(f"diverged from {diverged} of {len(branches)} starts")
    if len({branch.seed for branch in usable}) < LEAST_SEEDS:
        return TrialVerdict(
            passed=False,
            is_too_short=True,
            reason=f"was run from {len(usable)} starts only; {LEAST_SEEDS} are needed",
        )
    ends = [summarise_end(branch).loss for branch in usable]
    falls = [get_first_loss(branch) - end for branch, end in zip(usable, ends, strict=True)]
    least = max(LEAST_FALL_FRACTION * fall, STALL_FRACTION * statistics.median(falls))
    stalled = sum(each < least or each <= 0.0 for each in falls)
    if stalled:
        return _fail(f"stalled from {stalled} of {len(usable)} starts")
    lows = [min(each.loss for each in branch.evaluations) for branch in usable]
    rising = sum(
        end - low > RISE_FRACTION * each for end, low, each in zip(ends, lows, falls, strict=True)
    )
    if rising:
        return _fail(f"ended on a rising loss from {rising} of {len(usable)} starts")
    first, end = statistics.fmean(map(get_first_loss, usable)), statistics.fmean(ends)
    return TrialVerdict(
        passed=True,
        reason=f"trained from {len(usable)} fresh starts: loss {end:.3g} from {first:.3g}",
        end_loss=end,
        curve=average_curves(usable),
    )


def _fail(reason: str, *, fails_further: bool = False) -> TrialVerdict:
    return TrialVerdict(passed=False, fails_further=fails_further, reason=reason)


def _pair_starts(
    base: Sequence[TrialBranch], tried: Sequence[TrialBranch]
) -> tuple[list[tuple[TrialBranch, TrialBranch]], list[TrialBranch]]:
    """Return the branches from starts that both share, and those of the tried pair alone."""
    own = {branch.seed: branch for branch in base if branch.evaluations}
    other = {branch.seed: branch for branch in sorted(tried, key=lambda branch: branch.seed)}
    pairs = [(own[seed], branch) for seed, branch in other.items() if seed in own]
    return pairs, [branch for seed, branch in other.items() if seed not in own]


def _has_stalled(branch: TrialBranch, expected_fall: float) -> bool:
    return get_first_loss(branch) - summarise_end(branch).loss < STALL_FRACTION * expected_fall


def _read_base(base: TrialBranch, tried: TrialBranch, noise_scale: float | None) -> float:
    """Return the base's loss where the end of the tried branch is to be compared with it."""
    samples = float(summarise_end(tried).samples)
    if noise_scale is not None and noise_scale > 0.0:
        handicap = (noise_scale + base.global_batch_size) / (noise_scale + tried.global_batch_size)
        samples *= handicap
    return interpolate_loss(base, samples)


def _is_clearly_below(pairs: Sequence[tuple[TrialBranch, TrialBranch]], margin: float) -> bool:
    """Return whether every start is below the base at equal samples, and the mean by the margin.

    Without the handicap: a larger batch that is ahead at equal samples cannot owe it to its noise.
    """
    shared = min(summarise_end(branch).samples for pair in pairs for branch in pair)
    level = [interpolate_loss(own, shared) for own, _ in pairs]
    reached = [interpolate_loss(branch, shared) for _, branch in pairs]
    is_larger = pairs[0][1].global_batch_size > pairs[0][0].global_batch_size
    ahead = all(end < own for end, own in zip(reached, level, strict=True))
    return is_larger and ahead and statistics.fmean(level) - statistics.fmean(reached) > margin
