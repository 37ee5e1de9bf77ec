"""Whether a batch and rate train, and train as well as the user's own pair (docs/method.md, 7)."""

import statistics
from collections.abc import Iterable, Sequence

import msgspec

from advisor.rate.curves import average_curves, has_diverged, interpolate_loss
from advisor.rate.data import Evaluation, TrialBranch

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
    """Whether a pair may be advised, and why: one sentence without its full stop.

    Attributes:
        base_failed: The user's own pair does not train, so that nothing can be judged.
        is_too_short: The trial ended before it could show anything for or against either pair.
        beats_base: The pair ends clearly below the user's own at equal samples, as only a base rate
            that is too low explains.
        fails_further: It passed from the starts that the base pair shares, and failed from another.
        end_loss: Of a pair that passed, the mean over the starts that the base pair shares.
        curve: Its loss along the branch, likewise.
    """

    passed: bool = False
    reason: str
    base_failed: bool = False
    is_too_short: bool = False
    beats_base: bool = False
    fails_further: bool = False
    end_loss: float | None = None
    curve: tuple[Evaluation, ...] = ()


def judge_base(base: Sequence[TrialBranch]) -> TrialVerdict:
    """Return whether the user's own pair trains: from every start the loss ends below its first."""
    usable = [branch for branch in base if branch.evaluations]
    diverged = sum(map(has_diverged, usable))
    stalled = sum(branch.fall <= 0.0 for branch in usable)
    reason = f"the base pair trains from {len(usable)} starts"
    if diverged:
        reason = f"the base rate itself diverged from {diverged} of {len(usable)} starts"
    elif len({branch.seed for branch in usable}) < LEAST_SEEDS:
        reason = f"the base pair was run from fewer than {LEAST_SEEDS} starts"
        return TrialVerdict(is_too_short=True, reason=reason)
    elif stalled:
        reason = f"at the base rate itself {stalled} of {len(usable)} starts did not improve"
    if diverged or stalled:
        return TrialVerdict(base_failed=True, reason=reason)
    return _pass(usable, reason)


def judge_trial(
    base: Sequence[TrialBranch], tried: Sequence[TrialBranch], noise_scale: float | None
) -> TrialVerdict:
    """Return whether the tried pair trains as well as the base pair at equal samples.

    The end of a larger batch's branch is compared with the base's curve that much earlier as it
    needs more samples, by 1 + B/φ; an unknown φ allows nothing. Starts that the base pair was not
    trained from must not diverge or stall either; the means and the curve are over shared starts.

    Source: McCandlish et al. 2018, arXiv:1812.06162, for the samples: E(B) ∝ 1 + B/φ.
    """
    verdict = judge_base(base)
    if not verdict.passed:
        return verdict
    own = {branch.seed: branch for branch in base if branch.evaluations}
    other = {branch.seed: branch for branch in sorted(tried, key=lambda branch: branch.seed)}
    pairs = [(own[seed], branch) for seed, branch in other.items() if seed in own]
    further = [branch for seed, branch in other.items() if seed not in own]
    diverged = _refuse("diverged", (has_diverged(branch) for _, branch in pairs))
    if diverged is not None or len(pairs) < LEAST_SEEDS:
        return diverged or _find_too_short(len(pairs))
    reference = [_read_base(*pair, noise_scale) for pair in pairs]
    falls = [base.first_loss - loss for (base, _), loss in zip(pairs, reference, strict=True)]
    verdict = _judge_pairs(pairs, reference, falls)
    if not verdict.passed or not further:
        return verdict
    starts, fall = f"{len(further)} further starts", statistics.fmean(falls)
    refused = _refuse("diverged", map(has_diverged, further), starts)
    refused = refused or _refuse("stalled", (_has_stalled(each, fall) for each in further), starts)
    return refused or msgspec.structs.replace(
        verdict, reason=f"{verdict.reason}; trained from {starts}"
    )


def _judge_pairs(
    pairs: Sequence[tuple[TrialBranch, TrialBranch]],
    reference: Sequence[float],
    falls: Sequence[float],
) -> TrialVerdict:
    """Return what the starts show from which both pairs trained; the base's branch comes first."""
    tried = [branch for _, branch in pairs]
    stalled = _refuse("stalled", map(_has_stalled, tried, falls))
    if stalled is not None:
        return stalled
    end = statistics.fmean(branch.end.loss for branch in tried)
    expected = statistics.fmean(reference)
    margin = TOLERANCE_FRACTION * abs(statistics.fmean(falls)) + statistics.stdev(reference)
    figures = f"loss {end:.3g} where the base pair gives {expected:.3g}"
    if end - expected > margin:
        return TrialVerdict(reason=f"ended clearly above the base pair: {figures}")
    return msgspec.structs.replace(
        _pass(tried, f"trained from {len(pairs)} starts: {figures}"),
        beats_base=_is_clearly_below(pairs, margin),
    )


def judge_alone(branches: Sequence[TrialBranch], *, fall: float) -> TrialVerdict:
    """Return whether a rate trains, where there is no base pair to compare it with.

    No start may diverge, stall or end on its way up again.
    """
    diverged = _refuse("diverged", map(has_diverged, branches))
    if diverged is not None or len({branch.seed for branch in branches}) < LEAST_SEEDS:
        return diverged or _find_too_short(len(branches))
    falls = [branch.fall for branch in branches]
    least = max(LEAST_FALL_FRACTION * fall, STALL_FRACTION * statistics.median(falls))
    first = statistics.fmean(branch.first_loss for branch in branches)
    end = statistics.fmean(branch.end.loss for branch in branches)
    return (
        _refuse("stalled", (each < least or each <= 0.0 for each in falls))
        or _refuse("ended on a rising loss", map(_is_rising, branches))
        or _pass(
            branches,
            f"trained from {len(branches)} fresh starts: loss {end:.3g} from {first:.3g}",
        )
    )


def _pass(branches: Sequence[TrialBranch], reason: str) -> TrialVerdict:
    end_loss = statistics.fmean(branch.end.loss for branch in branches)
    return TrialVerdict(
        passed=True, reason=reason, end_loss=end_loss, curve=average_curves(branches)
    )


def _refuse(what: str, failed: Iterable[bool], further: str = "") -> TrialVerdict | None:
    """Return the verdict where something befell any of the starts; None where it did not."""
    each = list(failed)
    reason = f"{what} from {sum(each)} of {further or f'{len(each)} starts'}"
    return TrialVerdict(reason=reason, fails_further=bool(further)) if any(each) else None


def _find_too_short(starts: int) -> TrialVerdict:
    reason = f"was run from {starts} starts only; {LEAST_SEEDS} are needed"
    return TrialVerdict(is_too_short=True, reason=reason)


def _has_stalled(branch: TrialBranch, expected_fall: float) -> bool:
    return branch.fall < STALL_FRACTION * expected_fall


def _is_rising(branch: TrialBranch) -> bool:
    lowest = min(each.loss for each in branch.evaluations)
    return branch.end.loss - lowest > RISE_FRACTION * branch.fall


def _read_base(base: TrialBranch, tried: TrialBranch, noise_scale: float | None) -> float:
    """Return the base's loss where the end of the tried branch is to be compared with it."""
    samples = float(tried.end.samples)
    if noise_scale is not None and noise_scale > 0.0:
        handicap = (noise_scale + base.global_batch_size) / (noise_scale + tried.global_batch_size)
        samples *= handicap
    return interpolate_loss(base, samples)


def _is_clearly_below(pairs: Sequence[tuple[TrialBranch, TrialBranch]], margin: float) -> bool:
    """Return whether every start is below the base at equal samples, and the mean by the margin.

    Without the handicap: a larger batch that is ahead at equal samples cannot owe it to its noise.
    """
    shared = min(branch.end.samples for pair in pairs for branch in pair)
    leads = [interpolate_loss(base, shared) - interpolate_loss(own, shared) for base, own in pairs]
    is_larger = pairs[0][1].global_batch_size > pairs[0][0].global_batch_size
    return is_larger and min(leads) > 0.0 and statistics.fmean(leads) > margin
