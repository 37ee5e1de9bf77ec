"""The verdict, why, and what next: figures, causes, and how small a change would have shown."""

import operator
import shlex

from advisor.engine.record import Conclusions, Record
from advisor.errors import AdvisorError, InconclusiveError, NoBaselineError, RegressionError
from advisor.gate.data import (
    IN_TURNS,
    NEW,
    OLD,
    OLD_NAME,
    Comparison,
    Metric,
    Occasion,
    Outcome,
    Verdict,
    merge,
)
from advisor.gate.plan import COMPARISON
from advisor.statistics import Estimate
from advisor.telling import Column, Headline, Row, Screen, Table, Told
from advisor.units import count_of, format_bytes, format_duration, format_number, format_percent

NAMES: dict[Metric, str] = {
    "throughput": "throughput",
    "peak_memory": "peak memory",
    "largest_batch": "larger batch",
    "operators": "operators",
    "first_step": "first step",
}
#: What more of each metric's cost is, and less of it.
_WORDS: dict[Metric, tuple[str, str]] = {
    "throughput": ("slower", "faster"),
    "first_step": ("later", "earlier"),
}
OUTCOMES = {
    "pass": "PASS",
    "improved": "IMPROVED",
    "fail": "FAIL",
    "inconclusive": "INCONCLUSIVE",
    "not_measured": "not measured",
}
_CAUSES = {"code": "the code", "machine": "the machine", "stack": "the stack", "unknown": "unknown"}
_COLUMNS = (
    *(Column("", justify="left"), Column("was"), Column("is"), Column("worse")),
    *(Column("interval"), Column("limit"), Column("", justify="left")),
)
#: Of a change, from which on no more is told of it.
_MOST_TOLD = 9.99
#: Of an interval's ends, of what is no change to speak of, and of what is but rounding.
_CLOSE, _NONE, _ROUNDING = 0.02, 0.0005, 1e-9


def head_comparison(conclusions: Conclusions) -> Headline:
    """Return the verdict in a line, and what ends the command by it."""
    record = conclusions.record
    found, new = conclusions.of(COMPARISON), record.all(NEW)
    if found is None:
        if record.complete and new:
            sessions = count_of(len(merge(new).sessions), "session")
            return Headline(answer=f"PASS: there was no baseline, and now there is one: {sessions}")
        return Headline(answer="No verdict", missing=record.why_missing)
    if not found.verdicts:
        return Headline(
            answer="No verdict: the two sides are not of one setting",
            missing=NoBaselineError(
                f"the two sides cannot be compared: {_say_differences(found)}",
                next_step="Compare what was measured on the same device, of the same training.",
            ),
        )
    decisive = [
        each
        for each in found.verdicts
        if each.policy.level == "error" and each.outcome == found.outcome
    ]
    said = "; ".join(map(say_metric, decisive))
    missing: AdvisorError | None = None
    if found.outcome == "pass":
        said = f"{say_metric(found.verdicts[0])}, nothing beyond what is allowed"
    elif found.outcome == "fail":
        failed = ", ".join(NAMES[each.metric] for each in decisive)
        missing = RegressionError(f"regression of {failed}")
    elif found.outcome != "improved":
        missing = InconclusiveError("the check is inconclusive")
        if found.differences and not said:
            changed = ", ".join(each.name for each in found.differences)
            said = f"env-changed ({changed}), so what was measured is no verdict on the code"
    cut = "" if record.complete else " (from an incomplete run)"
    return Headline(answer=f"{OUTCOMES[found.outcome]}: {said}{cut}", missing=missing)


def draw_up_screen(conclusions: Conclusions) -> Screen:
    """Return the verdict, why, every metric, and what next."""
    found, headline = conclusions.of(COMPARISON), head_comparison(conclusions)
    if found is None:
        return Screen(answer=headline.answer)
    if not found.verdicts:
        return Screen(answer=headline.answer, lines=(_say_differences(found),))
    advice, command = _advise(conclusions, found)
    failing = [each for each in found.verdicts if each.policy.level == "error"]
    causes = [e for e in found.verdicts if e.cause and (e.outcome == "fail" or e in failing)]
    known = {NAMES[e.metric]: e.smallest_change for e in failing if e.smallest_change is not None}
    least = {name: _write_percent(change) for name, change in known.items()}
    return Screen(
        answer=headline.answer,
        lines=(
            *(f"Likely cause of {_say_cause(each)}." for each in causes),
            *(f"A change of {name} by {it} would have shown." for name, it in least.items()),
            *([advice] if advice else []),
        ),
        cautions=(f"env-changed: {_say_differences(found)}",) if found.differences else (),
        table=_draw_table(found),
        next_step=command,
    )


def _say_cause(verdict: Verdict) -> str:
    assert verdict.cause is not None
    kind, evidence = _CAUSES[verdict.cause.kind], verdict.cause.evidence
    return f"{NAMES[verdict.metric]}: {kind}: {evidence}"


def _say_differences(found: Comparison) -> str:
    return "; ".join(f"{each.name} {each.new}, was {each.old}" for each in found.differences)


def _advise(conclusions: Conclusions, found: Comparison) -> tuple[str, str]:
    """Return what to do, and the command for it where there is one."""
    is_against = conclusions.record.get(IN_TURNS)
    target = _name_target(conclusions.record)
    kinds = {each.cause.kind for each in found.verdicts if each.cause is not None}
    if found.outcome == "fail" and target and not is_against:
        advice = "If the change is meant, record the baseline again."
        return advice, f"bsadvisor baseline record {target}"
    if found.outcome not in {"inconclusive", "not_measured"}:
        return "", ""
    if "machine" in kinds and not is_against:
        return (
            "Check again once the machine is as it was, or compare two revisions on it in turns.",
            target and f"bsadvisor check --against REF {target}",
        )
    if found.differences and not is_against:
        advice = "Record the baseline on what is installed now, or give --gate-env-changed."
        return advice, target and f"bsadvisor baseline record {target}"
    if not target:  # files that were compared have no time to be given
        return "Measure both again with more sessions, on an idle machine, or allow more.", ""
    return "Give it more time with --budget, leave the machine idle, or allow more.", ""


def _name_target(record: Record) -> str:
    """Return what was measured as it is typed; empty where files were compared."""
    if record.workload is None:
        return ""
    setting, script = record.all(NEW)[0].setting, record.workload.script
    module = "-m " if script is not None and script.script.is_module else ""
    arguments = f" -- {shlex.join(setting.arguments)}" if setting.arguments else ""
    return f"{module}{shlex.quote(setting.target)}{arguments}"


def tell_comparison(conclusions: Conclusions) -> Told:
    """Return every metric's row, the causes, and how sure all is."""
    found, record = conclusions.of(COMPARISON), conclusions.record
    if found is None or not found.verdicts:
        return Told()
    name = record.get(OLD_NAME) or "the old side"
    old, new = (describe_side(merge(record.all(side))) for side in (OLD, NEW))
    turns = ", in turns" if record.get(IN_TURNS) else ""
    advice = " ".join(_advise(conclusions, found)).strip()
    rows = (
        *(Row("Cause", _say_cause(each)) for each in found.verdicts if each.cause is not None),
        Row("Compared", f"{old} ({name}) with {new}{turns}"),
        *(Row("Note", f"{NAMES[e.metric]}: {e.remark}") for e in found.verdicts if e.remark),
        *(
            Row("Would show", f"{NAMES[each.metric]}: {_write_percent(each.smallest_change)}")
            for each in found.verdicts
            if each.smallest_change is not None
        ),
        *(Row("env-changed", f"{e.name}: {e.new}, was {e.old}") for e in found.differences),
        *([Row("Next", advice)] if advice else []),
    )
    return Told(rows=rows, tables=(_draw_table(found),))


def _draw_table(found: Comparison) -> Table:
    return Table(
        columns=_COLUMNS,
        rows=tuple(map(_write_row, found.verdicts)),
        bold_rows=frozenset(n for n, e in enumerate(found.verdicts) if e.outcome == "fail"),
        is_narrow=True,
    )


def _write_row(verdict: Verdict) -> tuple[str, ...]:
    change = verdict.change
    return (
        NAMES[verdict.metric],
        write_value(verdict.metric, verdict.old),
        write_value(verdict.metric, verdict.new),
        "–" if change is None or change.point is None else _write_percent(change.point),
        _write_range(change),
        _write_percent(verdict.policy.threshold),
        say_outcome(verdict, verdict.outcome),
    )


def say_outcome(verdict: Verdict, outcome: Outcome) -> str:
    """Return the word for a metric's outcome: what only warns fails nothing."""
    only_warns = outcome == "fail" and verdict.policy.level == "warn"
    return "warning" if only_warns else OUTCOMES[outcome]


def write_value(metric: Metric, value: float | None) -> str:
    """Return a metric's value in its unit."""
    if value is None:
        return "–"
    if metric == "throughput":
        return f"{format_number(value / 1e3)}k/s" if value >= 1e5 else f"{format_number(value)}/s"
    if metric == "first_step":
        return f"{format_number(value)} s" if value >= 1.0 else format_duration(value)
    return f"{value:,.0f}" if metric == "operators" else format_bytes(value)


def _write_range(change: Estimate | None) -> str:
    """Return the interval of a change; empty where none is known or it has no width."""
    if change is None or change.low is None or change.high is None:
        return ""
    width = change.high - change.low
    if width < _ROUNDING:
        return ""
    decimals = 1 if width < _CLOSE else None  # or both ends may look the same
    low, high = (_write_percent(end, decimals) for end in (change.low, change.high))
    return f"{low.removesuffix(' %')} to {high}"


def _write_percent(fraction: float, decimals: int | None = None) -> str:
    """Return a change in few characters."""
    if fraction > _MOST_TOLD:
        return "> 999 %"
    return format_percent(round(fraction, 4) + 0.0, decimals=decimals)  # -0 is 0


def say_metric(verdict: Verdict) -> str:
    """Return in words how far a metric is from what it was, with its interval."""
    name, change = NAMES[verdict.metric], verdict.change
    if change is None or change.point is None:
        named = f"{name}: " * (verdict.outcome == "inconclusive")
        return f"{named}{verdict.remark}" if verdict.remark else f"{name} not measured"
    worse, better = _WORDS.get(verdict.metric, ("more", "less"))
    size = abs(change.point)
    if change.point < -_ROUNDING:
        change, worse = change.map(operator.neg, falls=True), better
    said = f"{name} {_write_percent(size)} {worse}" if size >= _NONE else f"{name} as it was"
    interval = _write_range(change)
    return f"{said} ({interval})" if interval else said


def describe_side(side: Occasion) -> str:
    """Return how often, what and when it was measured."""
    revision = side.revision
    named = ""
    if revision is not None:
        changed = ", changed" if revision.is_changed else ""
        named = f" of {revision.name + ' ' if revision.name else ''}{revision.commit[:10]}{changed}"
    return f"{count_of(len(side.sessions), 'session')}{named}, {side.recorded_at[:10]}"
