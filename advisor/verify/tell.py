"""What training showed of the recommendation: a table of batches, and a paragraph each."""

from rich import box
from rich.console import ConsoleRenderable
from rich.table import Table
from rich.text import Text

from advisor.statistics import Estimate
from advisor.units import (
    count_of,
    format_count,
    format_duration,
    format_number,
    format_rate,
    format_spread,
)
from advisor.verify.data import CriticalBatch, VerificationConclusion, VerifiedBatch

_LEADS = {"holds": "holds", "beaten": "does not hold", "inconclusive": "inconclusive"}


def render_verification(verification: VerificationConclusion | None) -> list[ConsoleRenderable]:
    """Return the table of batches and its legend; nothing where nothing was trained."""
    if verification is None:
        return []
    has_time = any(each.step_s is not None for each in verification.batches)
    has_gap = any(each.generalisation_gap is not None for each in verification.batches)
    has_sharpness = any(each.sharpness is not None for each in verification.batches)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("", no_wrap=True)
    for name in ("batch", "rate", "loss at the end"):
        table.add_column(name, justify="right", no_wrap=True)
    extra = ["at equal time", "to target"] * has_time + ["gap"] * has_gap
    for name in extra + ["sharpness"] * has_sharpness:
        table.add_column(name, justify="right", no_wrap=True)
    for each in verification.batches:
        cells = [
            ">" if each.global_batch_size == verification.recommended_batch_size else "",
            format_count(each.global_batch_size),
            format_rate(each.learning_rate),
            _write_end(each),
        ]
        if has_time:
            cells += [_write(each.loss_at_equal_time), _write_time(each.time_to_target_s)]
        cells += [_write(each.generalisation_gap)] * has_gap
        cells += [_write(each.sharpness)] * has_sharpness
        table.add_row(*cells, style="bold" if cells[0] else None)
    legend = _write_legend(verification, has_gap=has_gap, has_sharpness=has_sharpness)
    return [Text(), table, Text(legend, style="dim")]


def list_verification(verification: VerificationConclusion | None) -> list[tuple[str, str]]:
    """Return rows of label and text: verdict, critical batch, gap, sharpness, warnings."""
    if verification is None:
        return []
    verdict = verification.verdict
    lead = f"batch {format_count(verification.recommended_batch_size)} {_LEADS[verdict.status]}"
    start = f"step {format_count(verification.trunk_steps)}"
    if verification.from_checkpoint is not None:
        start = f"the checkpoint {verification.from_checkpoint}"
    trained = (
        f"trained from {start} over {count_of(verification.samples, 'sample')}, "
        f"{count_of(verification.seeds, 'seed')}"
    )
    rows = [("Verified", f"{lead}: {verdict.reason}; {trained}")]
    if verdict.equal_time_s is not None:
        time = format_duration(verdict.equal_time_s)
        first = f"after {time} of training batch {format_count(verdict.best_batch_size or 0)} leads"
        rows.append(("Equal time", f"{first}, with a loss of {verdict.target_loss:.3g}"))
    rows.append(("Critical", describe_critical_batch(verification.critical_batch)))
    slope = verification.gap_per_doubling
    if slope is not None and slope.point is not None:
        text = f"held-out over training loss changes by {_write(slope)} with each doubling"
        rows.append(("Held out", text))
    sharpness = _describe_sharpness(verification)
    rows += [] if sharpness is None else [("Minimum", sharpness)]
    return rows + [("Warning", each) for each in verification.warnings]


def describe_critical_batch(critical: CriticalBatch) -> str:
    """Return the critical batch with its ends, or why it is not known."""
    margin = "" if critical.margin is None else f"; margin {format_number(critical.margin)}"
    if critical.batch_size is None:
        text = f"inconclusive: {critical.reason}"
        if critical.needed_seeds is not None:
            text += f"; about {critical.needed_seeds} seeds would tell (--seeds)"
        return text + margin
    size = format_count(critical.batch_size)
    lead = {"at_least": f"at least {size}", "at_most": f"{size} or below"}.get(
        critical.status, f"batch {size}{_write_ends(critical)}"
    )
    return f"{lead} as measured: {critical.reason}{margin}"


def _describe_sharpness(verification: VerificationConclusion) -> str | None:
    """Return whether minima get sharper with the batch, and why some have no figure."""
    slope, failure = verification.sharpness_per_doubling, verification.sharpness_failure
    parts = []
    if slope is not None and slope.point is not None:
        text = f"sharpness at the end changes by {_write(slope)} with each doubling"
        parts.append(f"{text} (largest eigenvalue of the Hessian)")
    if failure is not None:
        is_none = all(each.sharpness is None for each in verification.batches)
        lead = "sharpness not measured" if is_none else "branches without a sharpness"
        parts.append(f"{lead}: {failure}")
    return "; ".join(parts) or None


def _write_ends(critical: CriticalBatch) -> str:
    low = "?" if critical.low is None else format_count(critical.low)
    if critical.high is None:
        return f" ({low} or more)"
    return f" (from {low} to below {format_count(critical.high)})"


def _write_end(each: VerifiedBatch) -> str:
    if each.standing == "diverged":
        return f"diverged, {each.diverged} of {each.seeds}"
    mark = {"fails": " -", "undecided": " ?"}.get(each.standing, "  ")
    return _write(each.end_loss) + mark


def _write(estimate: Estimate | None) -> str:
    return "" if estimate is None else format_spread(estimate).removesuffix(" (no interval)")


def _write_time(estimate: Estimate | None) -> str:
    return "" if estimate is None or estimate.point is None else format_duration(estimate.point)


def _write_legend(
    verification: VerificationConclusion, *, has_gap: bool, has_sharpness: bool
) -> str:
    parts = ["> recommended", "- above the margin of the best, ? not told"]
    time_s = verification.verdict.equal_time_s
    if time_s is not None:
        parts.append(f"equal time: {format_duration(time_s)}, where the first batch is done")
        parts.append("to target: until the lowest loss then")
    if has_gap:
        parts.append("gap: held-out over training loss")
    if has_sharpness:
        parts.append("sharpness: of the training loss at the end")
    return "; ".join([*parts, "± 95 % over seeds"])
