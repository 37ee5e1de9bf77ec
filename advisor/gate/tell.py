"""The verdict, why, and what next: figures, causes, and how small a change would show."""

from collections.abc import Sequence

from advisor.engine.conclusions import Conclusions
from advisor.errors import AdvisorError, InconclusiveError, NoBaselineError, RegressionError
from advisor.gate.data import NEW, OCCASIONS, OLD, OLD_NAME, Comparison, Metric, Occasion, Verdict
from advisor.gate.plan import COMPARISON
from advisor.gate.setting import identify, list_stack
from advisor.gate.verdict import judge_spread, list_sessions
from advisor.telling import Column, Headline, Row, Table, Told
from advisor.units import count_of, format_bytes, format_duration, format_number, format_percent

NAMES: dict[Metric, str] = {
    "throughput": "throughput",
    "peak_memory": "peak memory",
    "largest_batch": "memory at the larger batch",
    "operators": "operators of a step",
    "first_step": "time to the first step",
}
#: What more of each metric's cost is, and less of it.
_WORDS: dict[Metric, tuple[str, str]] = {
    "throughput": ("slower", "faster"),
    "first_step": ("longer", "shorter"),
}
OUTCOMES = {
    "pass": "PASS",
    "improved": "IMPROVED",
    "fail": "FAIL",
    "inconclusive": "INCONCLUSIVE",
    "not_measured": "not measured",
}
_COLUMNS = (
    Column("", justify="left"),
    Column("was"),
    Column("is"),
    Column("change"),
    Column("allowed"),
    Column("", justify="left"),
)


def head_comparison(conclusions: Conclusions) -> Headline:
    """Return the verdict in a line, and what ends the command by it."""
    record = conclusions.record
    found, new = conclusions.of(COMPARISON), record.all(NEW)
    if found is None:
        if record.complete and new:
            sessions = count_of(len(list_sessions(new)), "session")
            return Headline(answer=f"PASS: there was no baseline, and now there is one: {sessions}")
        return Headline(answer="No verdict", missing=record.why_missing)
    if not found.verdicts:
        said = "; ".join(
            f"{each.name} {each.new}, and was {each.old}" for each in found.differences
        )
        return Headline(
            answer="No verdict: the two sides are not of one setting",
            missing=NoBaselineError(
                f"the two sides cannot be compared: {said}",
                next_step="Compare what was measured on the same device, of the same training.",
            ),
        )
    answer = f"{OUTCOMES[found.outcome]}: {summarise(found)}"
    if not record.complete:
        answer += " (from an incomplete run)"
    return Headline(answer=answer, missing=_find_end(found))


def summarise(found: Comparison) -> str:
    """Return in one clause what decides."""
    changed_stack = ", ".join(each.name for each in found.differences)
    decisive = [
        each
        for each in found.verdicts
        if each.outcome == found.outcome and each.policy.level == "error"
    ]
    if found.outcome == "inconclusive" and not decisive:
        return f"env-changed ({changed_stack}), so what was measured is no verdict on the code"
    if found.outcome == "pass":
        return f"{_say_change(found.verdicts[0])}, and nothing else beyond what is allowed"
    return "; ".join(f"{NAMES[each.metric]}: {_say_change(each)}" for each in decisive)


def _find_end(found: Comparison) -> AdvisorError | None:
    if found.outcome == "fail":
        failed = [
            NAMES[each.metric]
            for each in found.verdicts
            if each.outcome == "fail" and each.policy.level == "error"
        ]
        return RegressionError(f"regression of {' and '.join(failed)}", next_step=_advise(found))
    if found.outcome in {"inconclusive", "not_measured"}:
        return InconclusiveError("the check is inconclusive", next_step=_advise(found))
    return None


def _advise(found: Comparison) -> str:
    kinds = {each.cause.kind for each in found.verdicts if each.cause is not None}
    if "machine" in kinds:
        return "Check again once the machine is as it was, or compare on it: --against REF."
    if any(each.tier == "stack" for each in found.differences):
        return (
            "Record the baseline again on this stack, gate all the same with --gate-env-changed, "
            "or compare two revisions on it: --against REF."
        )
    if found.outcome == "fail":
        return "If it is meant, record the baseline again: bsadvisor baseline record MODEL."
    return "Give it more time with --budget, leave the machine idle, or allow more."


def tell_comparison(conclusions: Conclusions) -> Told:
    """Return every metric's row, the causes, and how sure all is."""
    found, record = conclusions.of(COMPARISON), conclusions.record
    if found is None or not found.verdicts:
        return Told()
    rows = [
        Row("Cause", f"{NAMES[each.metric]}: {_say_cause(each)}")
        for each in found.verdicts
        if each.cause is not None
    ]
    old, new = record.all(OLD), record.all(NEW)
    name = record.get(OLD_NAME) or "the old side"
    rows.append(Row("Compared", f"{_describe(old)} ({name}) with {_describe(new)}"))
    rows += [
        Row(
            "Would show",
            f"a change of {format_percent(each.smallest_change)} of {NAMES[each.metric]}",
        )
        for each in found.verdicts
        if each.smallest_change is not None
    ]
    rows += [
        Row("env-changed", f"{each.name}: {each.new}, was {each.old}") for each in found.differences
    ]
    table = Table(
        columns=_COLUMNS,
        rows=tuple(_write_row(each) for each in found.verdicts),
        legend="change: for the worse positive, with an interval that holds at all looks together",
        bold_rows=frozenset(n for n, e in enumerate(found.verdicts) if e.outcome == "fail"),
        is_narrow=True,
    )
    return Told(rows=tuple(rows), tables=(table,))


def _write_row(verdict: Verdict) -> tuple[str, ...]:
    label = NAMES[verdict.metric] + (f", {verdict.remark}" if verdict.remark else "")
    outcome = OUTCOMES[verdict.outcome]
    if verdict.policy.level == "warn" and verdict.outcome == "fail":
        outcome = "warning"
    return (
        label,
        write_value(verdict.metric, verdict.old),
        write_value(verdict.metric, verdict.new),
        _say_change(verdict),
        format_percent(verdict.policy.threshold),
        outcome,
    )


def write_value(metric: Metric, value: float | None) -> str:
    """Return a metric's value in its unit."""
    if value is None:
        return "–"
    if metric == "throughput":
        return f"{format_number(value)}/s"
    if metric == "first_step":
        return format_duration(value)
    return f"{value:,.0f}" if metric == "operators" else format_bytes(value)


def _say_change(verdict: Verdict) -> str:
    change = verdict.change
    if change is None or change.point is None:
        return verdict.remark or "not measured"
    worse, better = _WORDS.get(verdict.metric, ("more", "less"))
    word = worse if change.point >= 0.0 else better
    said = f"{100.0 * abs(change.point):.1f} % {word}"
    if change.low is None or change.high is None or change.low == change.high:
        return said
    ends = sorted(
        100.0 * (end if change.point >= 0.0 else -end) for end in (change.low, change.high)
    )
    return f"{said} ({ends[0]:.1f} to {ends[1]:.1f})"


def _say_cause(verdict: Verdict) -> str:
    assert verdict.cause is not None
    who = {"code": "the code", "machine": "the machine", "stack": "the stack", "unknown": "unknown"}
    return f"{who[verdict.cause.kind]}: {verdict.cause.evidence}"


def _describe(side: Sequence[Occasion]) -> str:
    revision = side[0].revision
    named = ""
    if revision is not None:
        changed = ", changed" if revision.is_changed else ""
        named = f" of {revision.name + ' ' if revision.name else ''}{revision.commit[:10]}{changed}"
    return f"{count_of(len(list_sessions(side)), 'session')}{named}, {side[0].recorded_at[:10]}"


def head_baseline(conclusions: Conclusions) -> Headline:
    """Return what was recorded."""
    occasions = conclusions.record.all(OCCASIONS)
    sessions = len(list_sessions(occasions))
    if not occasions:
        return Headline(answer="No baseline", missing=conclusions.record.why_missing)
    setting = occasions[0].setting
    return Headline(
        answer=f"Baseline of {setting.target} at batch {setting.micro_batch_size:,}: "
        f"{count_of(sessions, 'session')} on {count_of(len(occasions), 'occasion')}"
    )


def tell_baseline(conclusions: Conclusions) -> Told:
    """Return what a baseline holds."""
    return describe_baseline(conclusions.record.all(OCCASIONS))


def describe_baseline(occasions: Sequence[Occasion]) -> Told:
    """Return its figures, its spread, and the setting that it stands for."""
    if not list_sessions(occasions):
        return Told()
    last = occasions[-1]
    spread = judge_spread(occasions)
    rows = [
        Row("Throughput", f"{write_value('throughput', spread.samples_per_s)}, spread "
            f"{_say_spread(spread.fraction)} between sessions"),
    ]  # fmt: skip
    if spread.smallest_change is not None:
        rows.append(
            Row(
                "Would show",
                f"a change of {format_percent(spread.smallest_change)} at the first look",
            )
        )
    rows += [
        Row("Memory", f"{format_bytes(peak.peak_bytes)} at batch {peak.micro_batch_size:,}")
        for peak in last.peaks
        if peak.peak_bytes is not None
    ]
    if last.operators is not None:
        rows.append(Row("Operators", f"{last.operators:,} of a step"))
    known = {**identify(last.setting), **list_stack(last.setting.environment)}
    rows.append(
        Row("Setting", ", ".join(f"{name} {value}" for name, value in known.items() if value))
    )
    rows += [
        Row("Recorded", f"{_describe((each,))}, bsadvisor {each.tool_version}")
        for each in occasions
    ]
    return Told(rows=tuple(rows))


def _say_spread(fraction: float | None) -> str:
    return "not known" if fraction is None else f"{format_number(100.0 * fraction)} %"
