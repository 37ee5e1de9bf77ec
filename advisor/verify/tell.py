"""What training showed of the recommendation: a screen, a table of batches, paragraphs, charts."""

import shlex
from collections.abc import Callable, Iterator

from advisor.engine.conclusions import Conclusions
from advisor.statistics import Estimate
from advisor.telling import (
    Chart,
    Datum,
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
from advisor.verify.data import CriticalBatch, VerificationConclusion, VerifiedBatch
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

_Cell = tuple[str, Callable[[VerifiedBatch], str]]
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
    return Told(rows=_list_rows(found), tables=(tabulate(found),), charts=chart_losses(found))


def tabulate(found: VerificationConclusion) -> Table:
    """Return a row for each batch; a column that no row could fill is left out."""
    columns: list[_Cell] = [
        ("batch", lambda each: format_count(each.global_batch_size)),
        ("rate", lambda each: format_figure(each.learning_rate)),
        ("loss at the end", _write_end),
    ]
    legend = ["> recommended", "- above the margin of the best, ? not told"]
    if any(each.step_s is not None for each in found.batches):
        columns.append(("at equal time", lambda each: _write(each.loss_at_equal_time)))
        columns.append(("to target", lambda each: _write_time(each.time_to_target_s)))
    if found.verdict.equal_time_s is not None:
        time = format_duration(found.verdict.equal_time_s)
        legend.append(f"equal time: {time}, where the first batch is done")
        legend.append("to target: until the lowest loss then")
    if any(each.generalisation_gap is not None for each in found.batches):
        columns.append(("gap", lambda each: _write(each.generalisation_gap)))
        legend.append("gap: held-out over training loss")
    if any(each.sharpness is not None for each in found.batches):
        columns.append(("sharpness", lambda each: _write(each.sharpness)))
        legend.append("sharpness: of the training loss at the end")
    return draw_up(
        [(header, [write(each) for each in found.batches]) for header, write in columns],
        marks=[
            ">" * (each.global_batch_size == found.recommended_batch_size) for each in found.batches
        ],
        legend="; ".join([*legend, "± 95 % over seeds"]),
    )


def _list_rows(found: VerificationConclusion) -> tuple[Row, ...]:
    verdict = found.verdict
    rows = [Row("Verified", f"{describe_verdict(found)}; {describe_start(found)}")]
    if verdict.equal_time_s is not None:
        time = format_duration(verdict.equal_time_s)
        first = f"after {time} of training batch {format_count(verdict.best_batch_size or 0)} leads"
        rows.append(Row("Equal time", f"{first}, with a loss of {verdict.target_loss:.3g}"))
    rows.append(Row("Critical", describe_critical_batch(found.critical_batch)))
    slope = found.gap_per_doubling
    if slope is not None and slope.point is not None:
        text = f"held-out over training loss changes by {_write(slope)} with each doubling"
        rows.append(Row("Held out", text))
    if sharpness := _describe_sharpness(found):
        rows.append(Row("Minimum", sharpness))
    return (*rows, *(Row("Warning", each) for each in found.warnings))


def describe_verdict(found: VerificationConclusion) -> str:
    """Return whether the recommended batch holds, and why."""
    batch, verdict = format_count(found.recommended_batch_size), found.verdict
    return f"batch {batch} {_LEADS[verdict.status]}: {verdict.reason}"


def describe_start(found: VerificationConclusion) -> str:
    """Return from where the branches were trained, and how far."""
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
    near = " to ".join(each for each in (low, high) if each)
    near = f" ({near})" if near else ""
    lead = {"at_least": f"at least {size}", "at_most": f"{size} or below"}.get(
        critical.status, f"batch {size}{near}"
    )
    return f"{lead} as measured: {critical.reason}{margin}"


def _describe_sharpness(found: VerificationConclusion) -> str:
    """Return whether minima get sharper with the batch, and why some have no figure."""
    slope, failure = found.sharpness_per_doubling, found.sharpness_failure
    parts = []
    if slope is not None and slope.point is not None:
        text = f"sharpness at the end changes by {_write(slope)} with each doubling"
        parts.append(f"{text} (largest eigenvalue of the Hessian)")
    if failure is not None:
        is_none = all(each.sharpness is None for each in found.batches)
        lead = "sharpness not measured" if is_none else "branches without a sharpness"
        parts.append(f"{lead}: {failure}")
    return "; ".join(parts)


def _write_end(each: VerifiedBatch) -> str:
    if each.standing == "diverged":
        return f"diverged, {each.diverged} of {each.seeds}"
    return _write(each.end_loss) + _MARKS.get(each.standing, "  ")


def _write(estimate: Estimate | None) -> str:
    return "" if estimate is None else format_spread(estimate).removesuffix(" (no interval)")


def _write_time(estimate: Estimate | None) -> str:
    return "" if estimate is None or estimate.point is None else format_duration(estimate.point)


def chart_losses(found: VerificationConclusion) -> tuple[Chart, ...]:
    """Return the losses of the batches over samples, and over time."""
    shown = [each for each in found.batches if each.curve][-_MOST_LINES:]
    losses = [point.loss.point or 0.0 for each in shown for point in each.curve]
    caption = f"The recommended batch {_LEADS[found.verdict.status]}: {found.verdict.reason}."
    return tuple(
        Chart(
            title=f"Training loss against {against}, by batch",
            caption=caption,
            x_label=x_label,
            y_label="mean over seeds, 95 % interval",
            lines=tuple(
                Line(
                    format_count(each.global_batch_size)
                    + ", recommended" * (each.global_batch_size == found.recommended_batch_size),
                    _trace(each, over_time=against == "time"),
                )
                for each in shown
            ),
            log_x=False,
            log_y=min(losses, default=1.0) > 0.0,
        )
        for against, x_label in (("samples", "samples"), ("time", "seconds of training"))
    )


def _trace(each: VerifiedBatch, *, over_time: bool) -> tuple[Datum, ...]:
    return place_estimates(
        (x, point.loss)
        for point in each.curve
        if (x := point.time_s if over_time else float(point.samples)) is not None
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
