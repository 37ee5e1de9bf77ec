"""What training showed of the recommendation: a screen, a table of batches, paragraphs, charts."""

import shlex
from collections.abc import Callable, Iterator

from advisor.engine.record import Conclusions
from advisor.statistics import Estimate
from advisor.telling import (
    Chart,
    Headline,
    Line,
    Row,
    Screen,
    Status,
    Table,
    Told,
    draw_up,
    place_estimates,
)
from advisor.units import (
    begin_sentence,
    count_of,
    format_count,
    format_duration,
    format_figure,
    format_number,
    format_spread,
)
from advisor.verify.data import CriticalBatch, CurvePoint, VerificationConclusion, VerifiedBatch
from advisor.verify.plan import VERIFICATION_TOPIC

_HEADLINES = {
    "holds": "The recommendation holds: batch {}",
    "beaten": "The recommendation does not hold: batch {}",
    "inconclusive": "Not told whether the recommendation holds: batch {}",
}
_LEADS = {"holds": "holds", "beaten": "does not hold", "inconclusive": "inconclusive"}
_MARKS = {"fails": " -", "undecided": " ?"}
#: Lines that a page has colours for.
_MOST_LINES = 8
_MOST_CAUTIONS = 2


def head_verification(conclusions: Conclusions) -> Headline:
    """Return whether the recommendation holds; it answers where that or the critical batch does."""
    found = conclusions.of(VERIFICATION_TOPIC)
    if found is None:
        return Headline(answer="No branch was trained.", missing="no branch was trained")
    status = found.verdict.status
    is_open = {status, found.critical_batch.status} == {"inconclusive"}
    return Headline(
        answer=_HEADLINES[status].format(format_count(found.recommended_batch_size)),
        missing=found.verdict.reason if is_open else None,
    )


def tell_verification(conclusions: Conclusions) -> Told:
    """Return verdict, critical batch, gap, sharpness and warnings, with the batches behind them."""
    found = conclusions.of(VERIFICATION_TOPIC)
    if found is None:
        return Told()
    rows = tuple(Row(*each) for each in _list_rows(found) if each[1])
    return Told(rows=rows, tables=(tabulate(found),), charts=chart_losses(found))


def _list_rows(found: VerificationConclusion) -> Iterator[tuple[str, str]]:
    yield "Verified", f"{describe_verdict(found)}; {_describe_start(found)}"
    if lead := _describe_lead(found):
        yield "Equal time", f"after {lead}, with a loss of {found.verdict.target_loss:.3g}"
    yield "Critical", describe_critical_batch(found.critical_batch)
    if slope := _write(found.gap_per_doubling):
        yield "Held out", f"held-out over training loss changes by {slope} with each doubling"
    yield "Minimum", _describe_sharpness(found)
    yield from (("Warning", each) for each in found.warnings)


def _write_end(each: VerifiedBatch) -> str:
    if each.standing == "diverged":
        return f"diverged, {each.diverged} of {each.seeds}"
    return _write(each.end_loss) + _MARKS.get(each.standing, "  ")


def _write(estimate: Estimate | None) -> str:
    is_known = estimate is not None and estimate.point is not None
    return format_spread(estimate).removesuffix(" (no interval)") if is_known else ""


def _write_time(estimate: Estimate | None) -> str:
    return "" if estimate is None or estimate.point is None else format_duration(estimate.point)


_COLUMNS: dict[str, Callable[[VerifiedBatch], str]] = {
    "batch": lambda each: format_count(each.global_batch_size),
    "rate": lambda each: format_figure(each.learning_rate),
    "loss at the end": _write_end,
    "at equal time": lambda each: _write(each.loss_at_equal_time),
    "to target": lambda each: _write_time(each.time_to_target_s),
    "gap": lambda each: _write(each.generalisation_gap),
    "sharpness": lambda each: _write(each.sharpness),
}
_LEGENDS = {
    "batch": "> recommended",
    "loss at the end": "- above the margin of the best, ? not told",
    "at equal time": "equal time: {time}, where the first batch is done",
    "to target": "to target: until the lowest loss then",
    "gap": "gap: held-out over training loss",
    "sharpness": "sharpness: of the training loss at the end",
}


def tabulate(found: VerificationConclusion) -> Table:
    """Return a row for each batch; a column that no row could fill is left out."""
    written = {name: [write(each) for each in found.batches] for name, write in _COLUMNS.items()}
    columns = {name: cells for name, cells in written.items() if any(cells)}
    legends = [_LEGENDS[name] for name in columns if name in _LEGENDS]
    is_own = [each.global_batch_size == found.recommended_batch_size for each in found.batches]
    return draw_up(
        [*columns.items()],
        marks=[">" * each for each in is_own],
        legend="; ".join([*legends, "± 95 % over seeds"]).format(
            time=format_duration(found.verdict.equal_time_s or 0.0)
        ),
    )


def describe_verdict(found: VerificationConclusion) -> str:
    """Return whether the recommended batch holds, and why."""
    batch, verdict = format_count(found.recommended_batch_size), found.verdict
    return f"batch {batch} {_LEADS[verdict.status]}: {verdict.reason}"


def _describe_lead(found: VerificationConclusion) -> str:
    """Return which batch is furthest, and when; empty where that is not told."""
    time_s, best = found.verdict.equal_time_s, found.verdict.best_batch_size
    if time_s is None or best is None:
        return ""
    return f"{format_duration(time_s)} of training batch {format_count(best)} leads"


def _describe_start(found: VerificationConclusion) -> str:
    start = f"step {format_count(found.trunk_steps)}"
    if found.from_checkpoint is not None:
        start = f"the checkpoint {found.from_checkpoint}"
    seen = count_of(found.samples, "sample")
    return f"trained from {start} over {seen}, {count_of(found.seeds, 'seed')}"


def describe_critical_batch(critical: CriticalBatch) -> str:
    """Return the critical batch with its ends, or why it is not known."""
    margin = "" if critical.margin is None else f"; margin {format_number(critical.margin)}"
    if critical.batch_size is None:
        text = f"inconclusive: {critical.reason}"
        if critical.needed_seeds is not None:
            text += f"; about {critical.needed_seeds} seeds would tell (--seeds)"
        return text + margin
    size = format_count(critical.batch_size)
    low = "" if critical.low is None else f"from {format_count(critical.low)}"
    high = "" if critical.high is None else f"below {format_count(critical.high)}"
    near = " to ".join(filter(None, (low, high)))
    lead = f"batch {size} ({near})" if near else f"batch {size}"
    lead = {"at_least": f"at least {size}", "at_most": f"{size} or below"}.get(
        critical.status, lead
    )
    return f"{lead} as measured: {critical.reason}{margin}"


def _describe_sharpness(found: VerificationConclusion) -> str:
    """Return whether minima get sharper with the batch, and why some have no figure."""
    slope, failure, parts = _write(found.sharpness_per_doubling), found.sharpness_failure, []
    if slope:
        text = f"sharpness at the end changes by {slope} with each doubling"
        parts.append(f"{text} (largest eigenvalue of the Hessian)")
    if failure is not None:
        is_none = all(each.sharpness is None for each in found.batches)
        lead = "sharpness not measured" if is_none else "branches without a sharpness"
        parts.append(f"{lead}: {failure}")
    return "; ".join(parts)


def chart_losses(found: VerificationConclusion) -> tuple[Chart, ...]:
    """Return the losses of the batches over samples, and over time."""
    shown = [each for each in found.batches if each.curve][-_MOST_LINES:]
    losses = [point.loss.point or 0.0 for each in shown for point in each.curve]
    verdict = found.verdict
    axes: dict[tuple[str, str], Callable[[CurvePoint], float | None]] = {
        ("samples", "samples"): lambda point: float(point.samples),
        ("time", "seconds of training"): lambda point: point.time_s,
    }
    return tuple(
        Chart(
            title=f"Training loss against {against}, by batch",
            caption=f"The recommended batch {_LEADS[verdict.status]}: {verdict.reason}.",
            x_label=x_label,
            y_label="mean over seeds, 95 % interval",
            lines=tuple(
                Line(
                    format_count(each.global_batch_size)
                    + ", recommended" * (each.global_batch_size == found.recommended_batch_size),
                    place_estimates(
                        (x, point.loss) for point in each.curve if (x := read(point)) is not None
                    ),
                )
                for each in shown
            ),
            log_x=False,
            log_y=min(losses, default=1.0) > 0.0,
        )
        for (against, x_label), read in axes.items()
    )


def draw_up_screen(conclusions: Conclusions) -> Screen:
    """Return the first screen of a verification."""
    found, answer = conclusions.of(VERIFICATION_TOPIC), head_verification(conclusions).answer
    if found is None:
        return Screen(answer=answer)
    facts, needed = conclusions.record.workload, found.critical_batch.needed_seeds
    more = ""
    if needed is not None and facts is not None:
        more = f"bsadvisor verify last {shlex.quote(facts.file)} --seeds {needed}"
    lead = _describe_lead(found)
    return Screen(
        answer=answer,
        lines=(
            f"{begin_sentence(found.verdict.reason)}.",
            *([f"After {lead}."] if lead else []),
            f"Critical batch: {describe_critical_batch(found.critical_batch)}.",
            f"Branches {_describe_start(found)}.",
        ),
        cautions=found.warnings[:_MOST_CAUTIONS],
        table=tabulate(found),
        next_step=more,
    )


def brief_verification(conclusions: Conclusions) -> Status | None:
    """Return the verdict, for the screen of a run that was verified."""
    found = conclusions.of(VERIFICATION_TOPIC)
    if found is None:
        return None
    is_open = found.verdict.status == "inconclusive"
    return Status("Verified", describe_verdict(found), "inconclusive" if is_open else "measured")
